// Runs the scenarios of the web UI in one browser, one after another, each in contexts of its own. Started by the test program
// tests/e2e/tests/browser, which says where the UI is (BROWSER_WORLD), where the lab's hands are (BROWSER_HANDS), where the modules
// are (BROWSER_MODULES) and where pictures go (BROWSER_OUT).
//
//   node run.mjs [PART_OF_A_NAME ...]
//
// A scenario is an exported async function of a module below scenarios/. Its name is `MODULE::FUNCTION`.

import fs from 'node:fs/promises';
import path from 'node:path';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { lab } from './lib/world.mjs';
import { Visits } from './lib/visit.mjs';

const require = createRequire(`${process.env.BROWSER_MODULES}/`);
const { chromium } = require('playwright-core');

/** No scenario takes a fraction of this on two busy cores. */
const LIMIT = 90_000;

const out = process.env.BROWSER_OUT;

/** The scenarios whose name has one of the wanted parts, in the order of files and of functions in them. */
async function scenarios(wanted) {
  const folder = path.join(path.dirname(fileURLToPath(import.meta.url)), 'scenarios');
  const files = (await fs.readdir(folder)).filter((file) => file.endsWith('.mjs')).sort();
  const found = [];
  for (const file of files) {
    const place = path.join(folder, file);
    const module = await import(pathToFileURL(place));
    // A module's exports come sorted by name; its text has them in the order that they are meant in.
    const names = [...(await fs.readFile(place, 'utf8')).matchAll(/^export async function (\w+)/gm)];
    found.push(...names.map(([, name]) => ({ name: `${file.slice(0, -'.mjs'.length)}::${name}`, run: module[name] })));
  }
  const chosen = found.filter(({ name }) => !wanted.length || wanted.some((part) => name.includes(part)));
  if (!chosen.length) throw new Error(`no scenario is called ${wanted.join(' or ')}`);
  return chosen;
}

/** Runs one scenario; gives back what is wrong, or nothing. */
async function perform(browser, { name, run }) {
  const visits = new Visits(browser, out);
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`it was not done after ${LIMIT} ms`)), LIMIT);
  });
  let wrong;
  try {
    await Promise.race([run(visits), late]);
    if (visits.watch.faults.length) wrong = `seen in the browser meanwhile:\n  ${visits.watch.faults.join('\n  ')}`;
  } catch (error) {
    const seen = visits.watch.faults.map((fault) => `\n  also: ${fault}`);
    wrong = `${error.stack ?? error}${seen.join('')}`;
  } finally {
    clearTimeout(timer);
  }
  if (wrong) wrong += `\n${await visits.leave(name)}`;
  await visits.close();
  return wrong;
}

async function main() {
  await fs.rm(path.join(out, 'failed'), { recursive: true, force: true });
  await lab.open();
  const chosen = await scenarios(process.argv.slice(2));
  // As root there is no sandbox to be had; the pages are our own.
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  let failed = 0;
  for (const scenario of chosen) {
    const began = Date.now();
    const wrong = await perform(browser, scenario);
    failed += wrong ? 1 : 0;
    const took = ((Date.now() - began) / 1000).toFixed(1);
    await lab.say(`${wrong ? 'FAILED' : 'ok'} ${scenario.name} (${took} s)${wrong ? `\n${wrong}` : ''}`);
  }
  await browser.close();
  await lab.say(`browser: ${chosen.length - failed} passed, ${failed} failed`);
  lab.close();
  process.exitCode = failed ? 1 : 0;
}

await main();
