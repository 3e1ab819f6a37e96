// Where policies hold: attached, taken from others, detached, deleted; each with its effect shown before it is confirmed, and
// seen by a job that runs.

import assert from 'node:assert/strict';

import { stored, yaml } from '../lib/filled.mjs';
import { api, call, lab, until } from '../lib/world.mjs';

const HOME = '/ui/orgs/acme/policies';

const read = (name) => api('GET', `/orgs/acme/policies/${name}`);

/** Writes a scope into the form of a policy's attachments, and asks for the effect. */
async function preview(page, name, scope) {
  await page.goto(`${HOME}/${name}/attach`);
  await page.getByLabel('Paste scopes').fill(scope);
  await page.getByRole('button', { name: 'Show the effect' }).click();
}

export async function attaching_says_whom_it_replaces_and_holds_for_the_running_job(visits) {
  await stored('narrow', yaml('block', 'allowed.test:443'));
  await stored('wide', yaml('audit', 'allowed.test:443'), 'repo:acme/moved');
  await lab.begin(1, { repo: 'acme/moved', run_id: 11 });
  await until('audit to let it through', () => lab.fetches(1, 'cdn-a.test'));
  const page = await visits.page('editor');
  await page.goto(`${HOME}/narrow`);
  await page.getByRole('link', { name: 'Attach now' }).click();
  await page.getByRole('checkbox', { name: 'Attach to repo:acme/moved' }).check();
  await page.getByRole('button', { name: 'Show the effect' }).click();
  const taken = page.locator('.said.bad').filter({ hasText: 'repo:acme/moved' });
  await taken.getByRole('link', { name: 'wide' }).waitFor();
  // What recorded jobs would have been refused.
  await page.getByText('cdn-a.test').first().waitFor();
  await visits.look(page, 'policy-attach-confirm');
  assert.deepEqual((await read('wide')).attachments, ['repo:acme/moved'], 'nothing happened yet');
  await page.locator('button[value=confirm]').click();
  await page.getByRole('heading', { level: 1, name: 'narrow' }).waitFor();
  assert.deepEqual((await read('narrow')).attachments, ['repo:acme/moved']);
  await until('the running job to be refused', async () => !(await lab.fetches(1, 'cdn-a.test')));
  await lab.end(1);
}

export async function scopes_of_a_pattern_are_attached_at_once(visits) {
  await stored('many', yaml('audit', 'allowed.test:443'));
  for (const [runner, repo] of [[1, 'acme/api-one'], [2, 'acme/api-two']]) {
    await lab.begin(runner, { repo, run_id: 12 });
    await lab.end(runner);
  }
  const page = await visits.page('editor');
  await until('both repositories to be seen', async () => {
    const { total } = await api('GET', '/scopes?kind=repo&pattern=acme/api-*');
    return total === 2;
  }, 20_000);
  await page.goto(`${HOME}/many/attach`);
  await page.getByLabel('Kind').selectOption('repo');
  await page.getByLabel('or is like').fill('acme/api-*');
  await page.getByRole('button', { name: 'Find' }).click();
  await page.getByRole('checkbox', { name: /Every scope that is like/ }).check();
  await page.getByRole('button', { name: 'Show the effect' }).click();
  await page.locator('button[value=confirm]').click();
  await page.getByRole('heading', { level: 1, name: 'many' }).waitFor();
  assert.deepEqual((await read('many')).attachments, ['repo:acme/api-one', 'repo:acme/api-two']);
}

export async function detaching_says_what_jobs_fall_back_to(visits) {
  await stored('loose', yaml('block', 'allowed.test:443'), 'repo:acme/loose', 'repo:acme/loose-too');
  const page = await visits.page('editor');
  await page.goto(`${HOME}/loose/attach`);
  await page.getByRole('checkbox', { name: 'repo:acme/loose-too', exact: true }).uncheck();
  await page.getByRole('button', { name: 'Show the effect' }).click();
  await page.getByRole('heading', { name: 'What jobs fall back to' }).waitFor();
  await page.getByText('their network\'s default').first().waitFor();
  await page.locator('button[value=confirm]').click();
  await page.getByRole('heading', { level: 1, name: 'loose' }).waitFor();
  assert.deepEqual((await read('loose')).attachments, ['repo:acme/loose']);

  await page.goto(HOME);
  const row = page.getByRole('row').filter({ has: page.getByRole('link', { name: 'loose', exact: true }) });
  await row.locator('summary').click();
  await row.getByRole('link', { name: 'Detach' }).click();
  await page.locator('button[value=confirm]').click();
  await page.getByText('Attached to nothing.').waitFor();
  assert.deepEqual((await read('loose')).attachments, []);
}

export async function several_policies_are_tried_against_the_networks_default_before_they_go(visits) {
  await stored('leaving', yaml('block', 'allowed.test:443'), 'repo:acme/leaving');
  await stored('leaving-too', yaml('block', 'allowed.test:443'), 'repo:acme/leaving-too');
  for (const repo of ['acme/leaving', 'acme/leaving-too']) {
    const { id } = await lab.begin(1, { repo, run_id: 13 });
    await until('what is allowed to be let through', () => lab.fetches(1, 'allowed.test'));
    await lab.end(1);
    await until('its event to be stored', async () => {
      const { items } = await api('GET', `/jobs/${id}/events?verdict=permit`);
      return items.some(({ name, kind }) => name === 'allowed.test' && kind === 'tls');
    });
  }
  const page = await visits.page('editor');
  await until('both repositories to be seen', async () => {
    const { total } = await api('GET', '/scopes?kind=repo&pattern=acme/leaving*');
    return total === 2;
  }, 20_000);
  await page.goto(HOME);
  for (const name of ['leaving', 'leaving-too']) {
    await page.getByRole('row').filter({ has: page.getByRole('link', { name, exact: true }) }).getByRole('checkbox').check();
  }
  await page.getByRole('button', { name: 'Detach', exact: true }).click();
  await page.getByText('in cluster prod').first().waitFor();
  await page.locator('code').filter({ hasText: 'deny-all' }).first().waitFor();
  await page.getByText('2 of 2 jobs would have been refused something: allowed.test:443.').waitFor();
  await visits.look(page, 'policies-selected-effect');
  await page.locator('form#selected').getByRole('button', { name: 'Detach' }).click();
  await page.getByText('done').first().waitFor();
  assert.deepEqual((await read('leaving')).attachments, []);
}

export async function deleting_names_what_is_attached_and_refuses_what_was_not_shown(visits) {
  visits.watch.allow(409, 412);
  await stored('doomed', yaml('block', 'allowed.test:443'), 'repo:acme/doomed');
  const page = await visits.page('editor');
  await page.goto(HOME);
  const row = page.getByRole('row').filter({ has: page.getByRole('link', { name: 'doomed', exact: true }) });
  await row.locator('summary').click();
  await row.getByRole('link', { name: 'Delete' }).click();
  await page.locator('.said.bad').getByText('repo:acme/doomed').waitFor();
  // Meanwhile somebody attaches it somewhere else.
  await api('POST', '/orgs/acme/policies/doomed/attachments', { add: ['repo:acme/other'] });
  await page.getByRole('button', { name: 'Delete doomed' }).click();
  await page.getByRole('alert').waitFor();
  assert.equal((await read('doomed')).attachments.length, 2, 'nothing is detached unseen');
  await page.getByText('repo:acme/other').first().waitFor();
  await page.getByRole('button', { name: 'Delete doomed' }).click();
  await page.getByRole('heading', { level: 1, name: 'Policies' }).waitFor();
  assert.equal((await call('GET', '/orgs/acme/policies/doomed')).status, 404);
}

export async function the_history_shows_who_changed_what_and_leads_back(visits) {
  await stored('past', yaml('block', 'allowed.test:443'), 'repo:acme/past');
  await api('PUT', '/orgs/acme/policies/past', { yaml: yaml('block', 'allowed.test:443', 'added.test:443') }, { headers: { 'if-match': '*' } });
  const page = await visits.page('editor');
  await page.goto(`${HOME}/past`);
  await page.getByRole('link', { name: 'History' }).click();
  await page.locator('td.added').filter({ hasText: 'added.test:443' }).waitFor();
  await page.getByText('repo:acme/past').first().waitFor();
  await page.getByText('by bootstrap').first().waitFor();
  await visits.look(page, 'policy-history-open');
  await page.getByRole('link', { name: 'Roll back to version 1' }).click();
  await page.locator('td.removed').filter({ hasText: 'added.test:443' }).waitFor();
  await page.getByRole('button', { name: 'Roll back to version 1' }).click();
  await page.getByRole('heading', { level: 1, name: 'past' }).waitFor();
  const now = await read('past');
  assert.deepEqual([now.version, now.yaml], [3, yaml('block', 'allowed.test:443')]);
}

export async function a_deleted_policy_is_read_and_made_again(visits) {
  await stored('retaken', yaml('block', 'allowed.test:443'), 'repo:acme/retaken');
  await api('PUT', '/orgs/acme/policies/retaken', { yaml: yaml('audit', 'allowed.test:443') }, { headers: { 'if-match': '*' } });
  await api('DELETE', '/orgs/acme/policies/retaken');
  const page = await visits.page('editor');
  await page.goto(HOME);
  await page.getByRole('link', { name: 'Deleted policies' }).click();
  await page.getByRole('link', { name: 'retaken', exact: true }).click();
  await page.getByText('This policy was deleted').waitFor();
  await page.getByRole('link', { name: 'Text of version 1' }).click();
  await page.getByLabel('The document').getByText('egress-policy: block').waitFor();
  await page.getByRole('link', { name: 'Create again from version 1' }).click();
  assert.equal(await page.getByLabel('Name', { exact: true }).inputValue(), 'retaken');
  await page.getByRole('button', { name: 'Create policy' }).click();
  await page.getByRole('link', { name: 'Attach now' }).waitFor();
  const again = await read('retaken');
  assert.deepEqual([again.version, again.yaml], [1, yaml('block', 'allowed.test:443')]);
}

export async function without_scripts_a_policy_is_made_attached_changed_and_detached(visits) {
  const page = await visits.page('editor', { js: false });
  await page.goto(HOME);
  await page.getByRole('link', { name: 'New policy' }).first().click();
  await page.getByLabel('Name', { exact: true }).fill('plain');
  await page.getByLabel('Document', { exact: true }).fill(yaml('audit', 'allowed.test:443'));
  await page.getByRole('button', { name: 'Create policy' }).click();
  await page.getByRole('heading', { level: 1, name: 'plain' }).waitFor();
  await preview(page, 'plain', 'repo:acme/plain');
  await page.locator('button[value=confirm]').click();
  await page.getByRole('heading', { level: 1, name: 'plain' }).waitFor();
  assert.deepEqual((await read('plain')).attachments, ['repo:acme/plain']);
  await page.goto(`${HOME}/plain/edit`);
  await page.getByRole('button', { name: 'Switch to block' }).click();
  await page.getByRole('button', { name: 'Review and save' }).click();
  await page.locator('td.added').filter({ hasText: 'egress-policy: block' }).waitFor();
  await page.getByRole('button', { name: 'Save the change' }).click();
  await page.getByRole('heading', { level: 1, name: 'plain' }).waitFor();
  assert.equal((await read('plain')).mode, 'block');
  await page.goto(`${HOME}/plain/detach`);
  await page.locator('button[value=confirm]').click();
  await page.getByText('Attached to nothing.').waitFor();
}
