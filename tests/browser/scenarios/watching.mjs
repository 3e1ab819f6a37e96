// What operators watch, and do about it: events as they come, sources without a job, detections, the global block list, tokens.

import assert from 'node:assert/strict';

import { stored, yaml } from '../lib/filled.mjs';
import { api, call, lab, until } from '../lib/world.mjs';

export async function events_are_followed_live_and_found_by_their_id(visits) {
  await stored('followed', yaml('block', 'allowed.test:443'), 'repo:acme/followed');
  await lab.begin(0, { repo: 'acme/followed', run_id: 31 });
  const page = await visits.page('viewer');
  await page.goto('/ui/events?repo=acme/followed');
  await page.getByRole('button', { name: 'Follow live' }).click();
  await page.getByText('Following. New events appear above.').waitFor();
  await page.evaluate(() => { window.marked = true; });
  assert.equal(await lab.fetches(0, 'followed.evil.test'), false);
  const row = page.getByRole('row').filter({ hasText: 'followed.evil.test' }).first();
  await row.waitFor();
  assert.ok(await page.evaluate(() => window.marked === true), 'nobody loaded the page again');
  assert.equal(await row.getByRole('link', { name: /Allow/ }).count(), 0, 'a viewer allows nothing');
  await visits.look(page, 'events-live');
  const id = (await row.locator('.id, td[data-label=Event] a').first().innerText()).trim();

  await page.goto('/ui/events');
  await page.getByLabel('Search').fill(id);
  await page.getByRole('button', { name: 'Show', exact: true }).click();
  await page.getByRole('region', { name: `Event ${id}` }).getByText('followed.evil.test').first().waitFor();
  await lab.end(0);
}

export async function a_refusal_that_comes_live_is_allowed_from_the_list_of_events(visits) {
  await stored('listed', yaml('block', 'allowed.test:443'), 'repo:acme/listed');
  await lab.begin(0, { repo: 'acme/listed', run_id: 35 });
  const page = await visits.page('editor');
  await page.goto('/ui/events?repo=acme/listed');
  await page.getByRole('button', { name: 'Follow live' }).click();
  await page.getByText('Following. New events appear above.').waitFor();
  assert.equal(await lab.fetches(0, 'evil.test'), false);
  const row = page.getByRole('row').filter({ hasText: 'evil.test' }).first();
  await row.getByText('not allowed').waitFor();
  await row.getByRole('link', { name: /Allow… evil\.test/ }).click();
  await page.getByRole('link', { name: 'In an endpoint set' }).waitFor();
  await page.getByRole('button', { name: 'Save the policy' }).click();
  await page.getByText('The policy allows it from its new version on.').waitFor();
  await until('the running job to reach it', () => lab.fetches(0, 'evil.test'));
  await lab.end(0);
}

export async function a_source_without_a_job_is_shown_with_what_it_tried(visits) {
  // Nobody registered here since the lab began, or the last job has ended.
  await lab.fetches(2, 'unidentified.evil.test');
  const page = await visits.page('viewer');
  await until('the source to be known', async () => {
    const { items } = await api('GET', '/unidentified-sources');
    return items.some(({ tried }) => tried.some(({ endpoint }) => endpoint === 'unidentified.evil.test'));
  });
  await page.goto('/ui/unidentified');
  const card = page.getByRole('region', { name: 'Source 10.77.1.4' });
  await card.locator('summary').click();
  await card.getByText('unidentified.evil.test').first().waitFor();
  await visits.look(page, 'unidentified-open');
}

export async function an_entry_of_the_block_list_refuses_a_running_job_at_once(visits) {
  await stored('open', yaml('audit', 'allowed.test:443'), 'repo:acme/open');
  await lab.begin(0, { repo: 'acme/open', run_id: 32 });
  await until('audit to let it through', () => lab.fetches(0, 'cdn-b.test'));
  const page = await visits.page('admin');
  await page.goto('/ui/global-block');
  await page.getByLabel('Block', { exact: true }).fill('cdn-b.test');
  await page.getByLabel('because').fill('a test of ours');
  await page.getByRole('button', { name: 'Add' }).click();
  await page.getByText('The entry is on the global block list.').waitFor();
  await until('the running job to be refused', async () => !(await lab.fetches(0, 'cdn-b.test')));

  await page.getByRole('row').filter({ hasText: 'cdn-b.test' }).getByRole('link', { name: 'Remove' }).click();
  await visits.look(page, 'global-block-remove');
  await page.getByRole('button', { name: 'Remove cdn-b.test' }).click();
  await page.getByText('The entry was removed').waitFor();
  await until('the running job to reach it again', () => lab.fetches(0, 'cdn-b.test'));
  await lab.end(0);
  const viewer = await visits.page('viewer');
  await viewer.goto('/ui/global-block');
  assert.equal(await viewer.getByRole('button', { name: 'Add' }).count(), 0);
}

export async function a_detection_is_looked_at_and_resolved(visits) {
  await stored('detected', yaml('block', 'allowed.test:443'), 'repo:acme/detected');
  await lab.begin(0, { repo: 'acme/detected', run_id: 33 });
  await lab.fetches(0, 'detected.evil.test');
  await lab.end(0);
  const found = await until('the detection', async () => {
    const { items } = await api('GET', '/detections?repo=acme/detected');
    return items[0];
  });
  const page = await visits.page('editor');
  await page.goto('/ui/detections');
  await page.getByRole('link', { name: /detected\.evil\.test/ }).first().click();
  await page.waitForURL(`**/ui/detections/${found.id}`);
  await page.getByText('detected.evil.test').first().waitFor();
  await page.getByRole('button', { name: 'Resolve' }).first().click();
  await until('the detection to be resolved', async () => {
    const { status } = await api('GET', `/detections/${found.id}`);
    return status === 'resolved';
  });
}

export async function an_admin_makes_a_token_sees_it_once_and_revokes_it(visits) {
  const page = await visits.page('admin');
  await page.goto('/ui/settings/tokens/new');
  await page.getByLabel('Name', { exact: true }).fill('for a robot');
  await page.getByLabel('Role').selectOption('viewer');
  await page.getByRole('button', { name: 'Make token' }).click();
  const token = await page.getByLabel('for a robot (viewer)').inputValue();
  assert.equal((await call('GET', '/session', undefined, { token })).status, 200);
  await page.getByRole('link', { name: 'Done' }).click();
  assert.equal(await page.getByText(token).count(), 0, 'it is shown once');
  await page.getByRole('link', { name: 'Revoke for a robot' }).click();
  await visits.look(page, 'token-revoke');
  await page.getByRole('button', { name: 'Revoke', exact: true }).click();
  await page.getByText('The token is revoked.').waitFor();
  await until('the token to be refused', async () => (await call('GET', '/session', undefined, { token })).status === 401);
  const viewer = await visits.page('viewer');
  visits.watch.allow(403);
  assert.equal((await viewer.goto('/ui/settings/tokens')).status(), 403);
}

export async function an_endpoint_set_is_changed_for_the_jobs_of_its_policies(visits) {
  visits.watch.allow(404);
  const page = await visits.page('editor');
  await page.goto('/ui/orgs/acme/new-endpoint-set');
  await page.getByLabel('Name', { exact: true }).fill('shared-names');
  await page.locator('textarea[name=yaml]').fill('- cdn-a.test:443\n');
  await page.getByRole('button', { name: 'Create endpoint set' }).click();
  await page.getByText('The endpoint set is saved').waitFor();
  const text = 'egress-policy: block\nplatform: none\nallowed-endpoints: >\n  allowed.test:443\nuse: [shared-names]\n';
  await stored('user', text, 'repo:acme/user');
  const job = await lab.begin(1, { repo: 'acme/user', run_id: 34 });
  await until('the job to reach what the set has', () => lab.fetches(1, 'cdn-a.test'));
  await until('its event', async () => (await api('GET', `/jobs/${job.id}/events?verdict=permit`)).items.length > 0);
  await page.goto(`/ui/jobs/${job.id}?verdict=permit`);
  await page.getByRole('row').filter({ hasText: 'cdn-a.test' }).first().getByRole('link', { name: 'cdn-a.test:443' }).click();
  await page.waitForURL('**/ui/orgs/acme/endpoint-sets/shared-names#line-1');
  await page.goto('/ui/orgs/acme/endpoint-sets/shared-names/edit');
  await page.locator('textarea[name=yaml]').fill('- cdn-b.test:443\n');
  await page.getByRole('button', { name: 'Review and save' }).click();
  await page.getByText('cdn-a.test:443').first().waitFor();
  await visits.look(page, 'endpoint-set-review');
  await page.getByRole('button', { name: 'Save the change' }).click();
  await page.getByRole('link', { name: 'user', exact: true }).first().waitFor();
  await until('the job to be refused what the set had', async () => !(await lab.fetches(1, 'cdn-a.test')));
  assert.ok(await lab.fetches(1, 'cdn-b.test'));
  await lab.end(1);
}
