// Jobs as they run: what is refused is seen at once, and allowed from where it is seen.

import assert from 'node:assert/strict';

import { stored, yaml } from '../lib/filled.mjs';
import { api, lab, until } from '../lib/world.mjs';

/** Marks a page, so that a reload would be seen. */
const mark = (page) => page.evaluate(() => { window.marked = true; });
const marked = (page) => page.evaluate(() => window.marked === true);

export async function a_refusal_of_a_running_job_appears_by_itself_and_is_allowed_in_two_clicks(visits) {
  await stored('live', yaml('block', 'allowed.test:443'), 'repo:acme/live');
  const job = await lab.begin(0, { repo: 'acme/live', run_id: 4242 });
  assert.ok(await lab.fetches(0, 'allowed.test'));
  const page = await visits.page('editor');
  await page.goto(`/ui/jobs/${job.id}`);
  await page.getByText('Live: new events appear at the top.').waitFor();
  await mark(page);
  assert.equal(await lab.fetches(0, 'evil.test'), false);
  const row = page.getByRole('row').filter({ hasText: 'evil.test' }).first();
  await row.waitFor();
  assert.ok(await marked(page), 'nobody loaded the page again');
  await visits.look(page, 'job-live');

  await row.getByRole('link', { name: 'Allow in this policy' }).click();
  await page.getByText('evil.test:443').first().waitFor();
  await visits.look(page, 'allow');
  await page.getByRole('button', { name: 'Save the policy' }).click();
  await page.getByText('The policy allows it from its new version on.').waitFor();
  await until('the running job to reach it', () => lab.fetches(0, 'evil.test'));
  const policy = await api('GET', '/orgs/acme/policies/live');
  assert.equal(policy.version, 2);
  await lab.end(0);
}

export async function a_run_groups_its_jobs_and_leads_to_them(visits) {
  const jobs = [];
  for (const [runner, leg] of [[1, 'test (18)'], [2, 'test (20)']]) {
    jobs.push(await lab.begin(runner, { repo: 'acme/matrix', run_id: 5150, job: leg }));
  }
  const page = await visits.page('viewer');
  await page.goto('/ui/runs?repo=acme/matrix');
  await page.getByRole('link', { name: /acme\/matrix.*5150/ }).first().click();
  await page.getByRole('link', { name: 'test (18)' }).first().waitFor();
  await page.getByRole('link', { name: 'test (20)' }).first().click();
  await page.waitForURL(`**/ui/jobs/${jobs[1].id}`);
  assert.equal(await page.getByRole('link', { name: 'Allow in this policy' }).count(), 0, 'a viewer allows nothing');
  await lab.end(1);
  await lab.end(2);
}
