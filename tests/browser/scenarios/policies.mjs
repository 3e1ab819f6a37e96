// The Policy Store: made, imported, attached, changed, compared, taken away; by one, by two at once, with and without scripts.

import assert from 'node:assert/strict';

import { stored, yaml } from '../lib/filled.mjs';
import { api, call, lab, session, tokens, until } from '../lib/world.mjs';

const HOME = '/ui/orgs/acme/policies';

/** What is stored under a name now. */
const read = (name) => api('GET', `/orgs/acme/policies/${encodeURIComponent(name)}`);

/** Fills in the editor. */
async function write(page, text) {
  await page.getByLabel('Document', { exact: true }).fill(text);
}

export async function a_policy_is_made_from_scratch_its_mistake_shown_where_it_is(visits) {
  visits.watch.allow(422);
  const page = await visits.page('editor');
  await page.goto(HOME);
  await page.getByRole('link', { name: 'New policy' }).first().click();
  await page.getByLabel('Name', { exact: true }).fill('scratch');
  const typed = yaml('blok', 'allowed.test:443');
  await write(page, typed);
  // As it is typed, and without a form being sent.
  const diagnostics = page.locator('#diagnostics');
  await diagnostics.getByText('Line 1, column').waitFor();
  await visits.look(page, 'policy-edit-mistake');
  await page.getByRole('button', { name: 'Create policy' }).click();
  await page.getByRole('alert').filter({ hasText: 'blok' }).waitFor();
  assert.equal(await page.getByLabel('Document', { exact: true }).inputValue(), typed, 'what was typed is there');
  assert.equal((await call('GET', '/orgs/acme/policies/scratch')).status, 404);

  await write(page, yaml('block', 'allowed.test:443'));
  await diagnostics.getByText('No problems.').waitFor();
  await page.getByRole('button', { name: 'Create policy' }).click();
  await page.getByRole('heading', { level: 1, name: 'scratch' }).waitFor();
  await page.getByRole('link', { name: 'Attach now' }).waitFor();
  assert.equal((await read('scratch')).yaml, yaml('block', 'allowed.test:443'));
}

export async function what_a_real_job_reached_is_imported_and_chosen_from(visits) {
  await stored('recorder', yaml('audit', 'allowed.test:443'), 'repo:acme/importer');
  for (const run of [1, 2, 3]) {
    await lab.begin(1, { repo: 'acme/importer', run_id: run });
    assert.ok(await lab.fetches(1, 'cdn-a.test'), 'audit lets through what it records');
    if (run === 3) await lab.fetches(1, 'cdn-b.test');
    await lab.end(1);
  }
  await until('the baseline of the runs', async () => {
    const { runs, endpoints } = await api('GET', '/baselines?scope=repo:acme/importer');
    return runs === 3 && endpoints.length === 2;
  });
  const page = await visits.page('editor');
  await page.goto('/ui/orgs/acme/new-policy');
  await page.getByLabel('Name', { exact: true }).fill('imported');
  await page.locator('summary').filter({ hasText: 'Import endpoints' }).click();
  await page.getByLabel('From the baseline of').fill('repo:acme/importer');
  await page.getByRole('button', { name: 'Preview what is added' }).click();
  const row = page.getByRole('row').filter({ hasText: 'cdn-a.test:443' });
  assert.ok(await row.getByRole('checkbox').isChecked());
  await page.getByText('1 reached in a single run').waitFor();
  await visits.look(page, 'policy-import');
  await page.getByRole('button', { name: 'Add to the text' }).first().click();
  const text = await page.getByLabel('Document', { exact: true }).inputValue();
  assert.match(text, /cdn-a\.test:443/);
  assert.doesNotMatch(text, /cdn-b\.test/);
  await page.getByRole('button', { name: 'Create policy' }).click();
  await page.getByRole('heading', { level: 1, name: 'imported' }).waitFor();
  assert.equal((await read('imported')).endpoints, 1);
}

export async function the_second_of_two_editors_sees_the_conflict_and_both_texts(visits) {
  visits.watch.allow(412, 409);
  await stored('shared', yaml('block', 'allowed.test:443'));
  const [first, second] = [await visits.page('editor'), await visits.page('admin')];
  for (const page of [first, second]) await page.goto(`${HOME}/shared/edit`);
  await write(first, yaml('block', 'allowed.test:443', 'first.test:443'));
  await first.getByRole('button', { name: 'Review and save' }).click();
  await first.getByRole('button', { name: 'Save the change' }).waitFor();
  await visits.look(first, 'policy-review');
  await first.getByRole('button', { name: 'Save the change' }).click();
  await first.getByRole('heading', { level: 1, name: 'shared' }).waitFor();

  await write(second, yaml('block', 'allowed.test:443', 'second.test:443'));
  await second.getByRole('button', { name: 'Review and save' }).click();
  // Told at the review, or when it is saved at the latest.
  const conflict = second.getByText('Nothing was stored.');
  const save = second.getByRole('button', { name: 'Save the change' });
  await conflict.or(save).first().waitFor();
  if (!(await conflict.isVisible())) await save.click();
  await conflict.waitFor();
  await second.getByText('the editor').first().waitFor();
  await visits.look(second, 'policy-conflict');
  for (const name of ['first.test:443', 'second.test:443']) {
    await second.getByRole('cell').filter({ hasText: name }).first().waitFor();
  }
  assert.match((await read('shared')).yaml, /first\.test/);
  await second.getByRole('button', { name: 'Go on with your text' }).click();
  assert.match(await second.getByLabel('Document', { exact: true }).inputValue(), /second\.test/);
}

export async function a_viewer_sees_policies_and_changes_none(visits) {
  visits.watch.allow(403);
  await stored('untouched', yaml('block', 'allowed.test:443'), 'repo:acme/untouched');
  const page = await visits.page('viewer');
  await page.goto(HOME);
  await page.getByRole('link', { name: 'untouched', exact: true }).waitFor();
  assert.equal(await page.getByRole('link', { name: 'New policy' }).count(), 0);
  assert.equal(await page.getByRole('button', { name: 'Delete' }).count(), 0);
  await page.goto(`${HOME}/untouched`);
  await page.getByRole('heading', { level: 1, name: 'untouched' }).waitFor();
  for (const action of ['Edit', 'Modify attachment', 'Delete']) {
    assert.equal(await page.getByRole('link', { name: action, exact: true }).count(), 0, action);
  }
  // Whoever sends the forms all the same is refused by the API.
  const cookie = `tidegate=${await session(tokens.viewer)}`;
  const headers = { cookie, 'sec-fetch-site': 'same-origin' };
  const { version } = await read('untouched');
  for (const [path, form] of [
    ['/ui/orgs/acme/new-policy', { do: 'review', name: 'sneaked', yaml: yaml('audit') }],
    [`${HOME}/untouched/edit`, { do: 'save', yaml: yaml('audit'), etag: `"${version}"` }],
    [`${HOME}/untouched/delete`, { do: 'delete', confirm: 'untouched' }],
    [`${HOME}/untouched/detach`, { do: 'detach', scope: 'repo:acme/untouched' }],
  ]) {
    const answer = await page.request.post(path, { form, headers, maxRedirects: 0 });
    assert.ok([403, 404, 405].includes(answer.status()), `${path} was answered ${answer.status()}`);
  }
  const kept = await read('untouched');
  assert.deepEqual([kept.version, kept.attachments], [version, ['repo:acme/untouched']]);
  assert.equal((await call('GET', '/orgs/acme/policies/sneaked')).status, 404);
}
