// What strangers wrote stands in pages as text: names that a job asked for, what a job calls itself, what somebody typed.

import assert from 'node:assert/strict';

import { stored, yaml } from '../lib/filled.mjs';
import { settled } from '../lib/visit.mjs';
import { api, call, lab, until } from '../lib/world.mjs';

/** What runs where it is taken for HTML. No character of it needs escaping in a name of DNS but the spaces. */
const IMG = '<img/src=x/onerror=alert(1)>';
const SCRIPT = '<script>alert(2)</script>';

/** Nothing of it became an element. A dialog would be a fault by itself. */
async function is_text(page) {
  const elements = await page.evaluate(() => document.querySelectorAll('img[src="x"], main script, svg[onload]').length);
  assert.equal(elements, 0, page.url());
}

export async function names_that_a_job_asks_for_are_text_on_every_page(visits) {
  await stored('strict', yaml('block', 'allowed.test:443'), 'repo:acme/strangers');
  const job = await lab.begin(0, { repo: 'acme/strangers', run_id: 666, job: `build ${SCRIPT}` });
  const name = `${IMG}.evil.test`;
  await lab.run(0, 'dig', '+noidnin', '+tries=1', '+time=3', name);
  await lab.run(0, 'curl', '-sS', '-m', '3', '-H', `Host: ${SCRIPT}`, 'http://192.0.2.66/');
  const seen = await until('the event of the name', async () => {
    const { items } = await api('GET', `/jobs/${job.id}/events`);
    return items.find((event) => event.name?.includes('onerror'));
  });
  const page = await visits.page('editor');
  for (const path of [
    `/ui/jobs/${job.id}`,
    '/ui/runs?repo=acme/strangers',
    '/ui/runs/acme/strangers/666',
    '/ui/events?repo=acme/strangers',
    `/ui/events?id=${seen.id}`,
    '/ui/coverage?repo=acme/strangers',
    '/ui/baselines/scope?scope=repo:acme/strangers',
    '/ui/detections',
    '/ui/',
  ]) {
    const answer = await page.goto(path);
    assert.equal(answer.status(), 200, path);
    await settled(page);
    await is_text(page);
  }
  await page.goto(`/ui/jobs/${job.id}`);
  await page.getByText('onerror=alert(1)').first().waitFor();
  await lab.end(0);
}

export async function what_is_typed_into_forms_comes_back_as_text(visits) {
  visits.watch.allow(400, 403, 422);
  const page = await visits.page('admin');
  await page.goto('/ui/orgs/acme/new-policy');
  await page.getByLabel('Name', { exact: true }).fill(IMG);
  await page.getByLabel('Document', { exact: true }).fill(`egress-policy: block\nallowed-endpoints: >\n  ${SCRIPT}\n# </textarea>${IMG}\n`);
  await page.getByRole('button', { name: 'Create policy' }).click();
  await page.getByRole('alert').waitFor();
  assert.equal(await page.getByLabel('Name', { exact: true }).inputValue(), IMG);
  assert.match(await page.getByLabel('Document', { exact: true }).inputValue(), /<\/textarea><img/);
  await is_text(page);
  for (const path of [
    `/ui/orgs/acme/policies?search=${encodeURIComponent(IMG)}`,
    `/ui/events?q=${encodeURIComponent(SCRIPT)}`,
    `/ui/baselines?search=${encodeURIComponent(`">${IMG}`)}`,
    `/ui/coverage?search=${encodeURIComponent(`">${IMG}`)}`,
    `/ui/global-block?search=${encodeURIComponent(`">${IMG}`)}`,
    `/ui/login?next=${encodeURIComponent(`/ui/"><script>alert(3)</script>`)}`,
  ]) {
    await page.goto(path);
    await page.getByRole('heading', { level: 1 }).waitFor();
    await is_text(page);
  }
}

export async function reasons_and_names_of_tokens_are_text(visits) {
  await api('POST', '/global-block/entries', { pattern: 'blocked.test', reason: `${IMG}${SCRIPT}` });
  await call('POST', '/tokens', { role: 'viewer', name: `${IMG} of ${SCRIPT}`, owners: [] });
  const page = await visits.page('admin');
  for (const path of ['/ui/global-block', '/ui/settings', '/ui/settings/tokens', '/ui/audit-log']) {
    const answer = await page.goto(path);
    assert.equal(answer.status(), 200, path);
    await page.getByRole('heading', { level: 1 }).waitFor();
    await is_text(page);
  }
}
