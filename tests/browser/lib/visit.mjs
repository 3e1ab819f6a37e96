// Who visits the web UI, and how: as which role, in which theme, on which screen, with or without scripts.
// Owns browser contexts; a scenario gets pages that are logged in and watched.

import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import path from 'node:path';

import { session, tokens, url } from './world.mjs';
import { Watch } from './watch.mjs';
import { violations } from './rules.mjs';

/** How wide the window is on a desk and on a phone, in CSS pixels. */
export const DESK = 1280;
export const PHONE = 390;

/** How long a page may take to show what is waited for. */
const PATIENCE = 10_000;

/** One of many things, and a word that wants a date before a time that is told from now. */
const BAD_WORDS = /(?<!of )\b1 (?:calls|endpoints|entries|events|gateways|jobs|lines|names|policies|runs|scopes|sources|verdicts|versions|workflows)\b|\b(?:at|before|from|on|since|until) (?:\d+ (?:sec|min|hr|day|mo|yr)|in \d)\S*/g;

/** What a page cuts at an edge, to be scrolled to: on a desk there is room for all but long lines of code. */
async function cut(page) {
  return page.evaluate(() => {
    const scrolls = (box) => ['auto', 'scroll'].includes(getComputedStyle(box).overflowX) && box.scrollWidth > box.clientWidth;
    const isCode = (box) => box.matches('pre, textarea, .code, .editor *') || box.querySelector('table.lines, pre');
    return [...document.querySelectorAll('main *')]
      .filter((box) => scrolls(box) && !isCode(box))
      .map((box) => `${location.pathname}: ${box.getAttribute('aria-label') ?? box.className} is cut: ${box.scrollWidth} px in ${box.clientWidth}`);
  });
}

/** Waits until what a page loads by itself has loaded: its parts come one after another, each marked while it does. */
export async function settled(page) {
  await page.waitForFunction(() => document.readyState === 'complete' && !document.querySelector('[aria-busy=true]'));
}

/** The visits of one scenario. */
export class Visits {
  #browser;
  #out;
  #contexts = [];
  pages = [];
  watch = new Watch();

  constructor(browser, out) {
    this.#browser = browser;
    this.#out = out;
  }

  /**
   * A page of somebody: `role` is admin, editor or viewer, or `null` for nobody yet; `token` is one to log in with instead.
   * Theme is light or dark.
   */
  async page(role, { theme = 'light', width = DESK, js = true, token = tokens[role] } = {}) {
    const context = await this.#browser.newContext({
      baseURL: url,
      colorScheme: theme,
      javaScriptEnabled: js,
      // The lab's authority signed for the issuer of logins.
      ignoreHTTPSErrors: true,
      viewport: { width, height: width === PHONE ? 844 : 800 },
    });
    this.#contexts.push(context);
    context.setDefaultTimeout(PATIENCE);
    if (js) await this.watch.over(context);
    if (token) await context.addCookies([{ name: 'tidegate', value: await session(token), url }]);
    const page = await context.newPage();
    this.pages.push(page);
    return page;
  }

  /** What is wrong with how a page looks and is heard: findings of weight, and more width than the screen has. */
  async wrong_with(page) {
    await settled(page);
    const found = await violations(page);
    const [screen, whole] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
    if (whole > screen) found.push(`${page.url()} is ${whole} px wide on a screen of ${screen}`);
    if (screen >= DESK) found.push(...(await cut(page)));
    const text = await page.locator('main').innerText();
    found.push(...(text.match(BAD_WORDS) ?? []).map((words) => `${page.url()} says "${words}"`));
    return found;
  }

  /** Keeps a picture of a page that a scenario came to, and wants nothing to be wrong with it. */
  async look(page, name) {
    await this.picture(page, name);
    assert.deepEqual(await this.wrong_with(page), []);
  }

  /** Keeps a picture of a page among the test's output. */
  async picture(page, name) {
    const file = path.join(this.#out, 'pages', `${name}.png`);
    await fs.mkdir(path.dirname(file), { recursive: true });
    await page.screenshot({ path: file, fullPage: true, animations: 'disabled' });
  }

  /** What is left of a scenario that failed: each page's text and picture, and the console. */
  async leave(name) {
    const folder = path.join(this.#out, 'failed');
    await fs.mkdir(folder, { recursive: true });
    const told = [];
    for (const [number, page] of this.pages.entries()) {
      const stem = path.join(folder, `${name.replace('::', '-')}-${number + 1}`);
      try {
        await page.screenshot({ path: `${stem}.png`, fullPage: true });
        await fs.writeFile(`${stem}.html`, await page.content());
        const text = await page.locator('body').innerText();
        told.push(`page ${number + 1}, ${page.url()} (${stem}.png):\n${text.slice(0, 4_000)}`);
      } catch (error) {
        told.push(`page ${number + 1} can't be shown: ${error.message}`);
      }
    }
    await fs.writeFile(path.join(folder, `${name.replace('::', '-')}.log`), this.watch.log);
    return told.join('\n');
  }

  async close() {
    await Promise.all(this.#contexts.map((context) => context.close()));
  }
}
