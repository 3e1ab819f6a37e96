// Every page by itself, filled with what jobs of the lab did: pictures of it in both themes and on a phone, and what the
// accessibility rules find in it.

import assert from 'node:assert/strict';

import { PHONE } from '../lib/visit.mjs';
import { PAGES, filled } from '../lib/filled.mjs';

/** Visits every page once, keeps its picture and collects what the rules find. */
async function tour(visits, look, suffix) {
  const page = await visits.page('admin', look);
  const found = [];
  for (const [name, path] of PAGES(await filled())) {
    const answer = await page.goto(path);
    assert.equal(answer.status(), 200, path);
    await page.getByRole('heading', { level: 1 }).waitFor();
    found.push(...(await visits.wrong_with(page)));
    await visits.picture(page, `${name}-${suffix}`);
  }
  assert.deepEqual(found, []);
}

export async function every_page_is_accessible_in_the_light_theme(visits) {
  await tour(visits, { theme: 'light' }, 'light');
}

export async function every_page_is_accessible_in_the_dark_theme(visits) {
  await tour(visits, { theme: 'dark' }, 'dark');
}

export async function every_page_is_accessible_on_a_phone(visits) {
  await tour(visits, { theme: 'light', width: PHONE }, 'phone');
}
