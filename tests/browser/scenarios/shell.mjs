// What is the same on every page: the menu, themes, screens, keyboards, and what is heard of it by assistive technology.

import assert from 'node:assert/strict';

import { PHONE } from '../lib/visit.mjs';

/** The entries of the menu: word and address. */
async function entries(page) {
  // On a phone they are there before they are seen.
  return page.locator('nav[aria-label=Pages] li a').evaluateAll((links) =>
    links.map((link) => [link.textContent.trim(), new URL(link.href).pathname]));
}

/** The background that is seen, as red, green and blue together: more is lighter. */
async function lightness(page) {
  return page.evaluate(() => {
    const colour = getComputedStyle(document.body).backgroundColor;
    return colour.match(/\d+(\.\d+)?/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0);
  });
}

export async function every_entry_of_the_menu_leads_to_its_page(visits) {
  const page = await visits.page('admin');
  await page.goto('/ui/orgs/acme/policies');
  const menu = await entries(page);
  assert.ok(menu.length >= 10, `${menu}`);
  for (const [word, path] of menu) {
    await page.goto(path);
    await page.getByRole('heading', { level: 1 }).waitFor();
    const current = page.getByRole('navigation', { name: 'Pages' }).locator('[aria-current=page]');
    assert.deepEqual(await current.allTextContents(), [word], path);
    assert.ok((await page.title()).endsWith('Tidegate'), path);
  }
}

export async function the_theme_follows_the_system_and_a_choice_is_kept(visits) {
  const dark = await visits.page('viewer', { theme: 'dark' });
  await dark.goto('/ui/');
  const light = await visits.page('viewer', { theme: 'light' });
  await light.goto('/ui/');
  assert.ok((await lightness(dark)) < 200, 'the page of a dark system is dark');
  assert.ok((await lightness(light)) > 600, 'the page of a light system is light');

  await dark.locator('summary').filter({ hasText: 'Theme' }).click();
  await dark.getByRole('button', { name: 'Light', exact: true }).click();
  await dark.waitForURL('**/ui/');
  await dark.goto('/ui/runs');
  assert.ok((await lightness(dark)) > 600, 'the choice holds on every page');
}

export async function on_a_phone_the_menu_opens_and_no_page_is_wider_than_the_screen(visits) {
  const page = await visits.page('admin', { width: PHONE });
  await page.goto('/ui/orgs/acme/policies');
  const menu = await entries(page);
  await page.getByRole('link', { name: 'Menu', exact: true }).click();
  const runs = page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Runs' });
  await runs.click();
  await page.waitForURL('**/ui/runs');
  for (const [, path] of menu) {
    await page.goto(path);
    await page.getByRole('heading', { level: 1 }).waitFor();
    const [inner, whole] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
    assert.ok(whole <= inner, `${path} is ${whole} px wide on a screen of ${inner}`);
  }
}

export async function a_keyboard_is_enough_to_reach_and_use_the_menus(visits) {
  const page = await visits.page('viewer');
  await page.goto('/ui/');
  const focused = () => page.evaluate(() =>
    document.activeElement === document.body ? '' : document.activeElement.innerText.trim());
  await page.keyboard.press('Tab');
  assert.equal(await focused(), 'Skip to content');
  const outline = await page.evaluate(() => {
    const style = getComputedStyle(document.activeElement);
    return style.outlineStyle !== 'none' || style.boxShadow !== 'none';
  });
  assert.ok(outline, 'what has the focus is seen to have it');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');

  await page.goto('/ui/');
  for (let step = 0; (await focused()).includes('viewer') === false; step += 1) {
    assert.ok(step < 15, 'the menu of the person is reached soon');
    await page.keyboard.press('Tab');
  }
  await page.keyboard.press('Enter');
  const out = page.getByRole('button', { name: 'Sign out' });
  await out.waitFor();
  await page.keyboard.press('Escape');
  await out.waitFor({ state: 'hidden' });
  assert.match(await focused(), /viewer/, 'a closed menu gives the focus back');

  for (let step = 0; (await focused()) !== 'Coverage'; step += 1) {
    assert.ok(step < 15, 'the menu of pages is reached');
    await page.keyboard.press('Tab');
  }
  await page.keyboard.press('Enter');
  await page.waitForURL('**/ui/coverage');
}

export async function an_address_that_is_none_says_so_within_the_frame(visits) {
  visits.watch.allow(404);
  const page = await visits.page('viewer');
  const answer = await page.goto('/ui/nothing-here');
  assert.equal(answer.status(), 404);
  await page.getByRole('navigation', { name: 'Pages' }).waitFor();
  await page.getByRole('alert').waitFor();
  const stranger = await visits.page(null);
  await stranger.goto('/ui/nothing-here');
  assert.equal(await stranger.getByRole('navigation', { name: 'Pages' }).count(), 0);
}
