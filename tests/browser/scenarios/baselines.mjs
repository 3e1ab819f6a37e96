// Baselines: what real jobs reached, chosen from, made into a policy.

import assert from 'node:assert/strict';

import { stored, yaml } from '../lib/filled.mjs';
import { api, lab, until } from '../lib/world.mjs';

export async function a_baseline_of_real_jobs_becomes_a_policy_that_refuses_the_rest(visits) {
  await stored('learn', yaml('audit', 'allowed.test:443'), 'repo:acme/learned');
  for (const run of [21, 22]) {
    await lab.begin(2, { repo: 'acme/learned', run_id: run });
    for (const name of ['cdn-a.test', 'cdn-b.test']) assert.ok(await lab.fetches(2, name));
    await lab.end(2);
  }
  await until('the baseline of both runs', async () => {
    const { runs, endpoints } = await api('GET', '/baselines?scope=repo:acme/learned');
    return runs === 2 && endpoints.length === 2;
  });
  const page = await visits.page('editor');
  await page.goto('/ui/baselines?owner=acme&search=repo:acme/learned');
  await page.getByRole('link', { name: 'acme/learned', exact: true }).click();
  await page.getByRole('img', { name: '2 calls in 30 days' }).first().waitFor();
  await page.getByRole('checkbox', { name: 'Take cdn-b.test:443' }).uncheck();
  await page.getByLabel('Mode').selectOption('block');
  await page.getByRole('button', { name: 'Preview the policy' }).click();
  const text = await page.getByLabel('Policy', { exact: true }).inputValue();
  await visits.look(page, 'baseline-draft');
  assert.match(text, /egress-policy: block/);
  assert.match(text, /cdn-a\.test:443/);
  assert.doesNotMatch(text, /cdn-b\.test/);
  await page.getByRole('button', { name: 'Create policy' }).click();
  await page.getByRole('heading', { level: 1, name: 'learned' }).waitFor();
  await page.getByRole('link', { name: 'Attach now' }).waitFor();

  const file = page.waitForEvent('download');
  await page.goto('/ui/baselines/scope?scope=repo:acme/learned');
  await page.getByRole('link', { name: 'Export as text' }).click();
  const chunks = [];
  for await (const chunk of await (await file).createReadStream()) chunks.push(chunk);
  assert.equal(Buffer.concat(chunks).toString(), 'cdn-a.test:443\ncdn-b.test:443\n');
}
