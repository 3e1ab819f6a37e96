// The accessibility rules of axe-core, run in a page. Serious and critical findings count.

import { createRequire } from 'node:module';

const require = createRequire(`${process.env.BROWSER_MODULES}/`);
const axe = require('axe-core');

/** Serious and critical findings, each a line with the elements that it is about. */
export async function violations(page) {
  await page.evaluate(axe.source);
  const { violations: found } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const grave = found.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  return grave.map(({ id, impact, help, nodes }) => {
    const where = nodes.slice(0, 5).map(({ html, failureSummary }) => `\n    ${html.slice(0, 200)}\n      ${failureSummary?.replaceAll('\n', ' ')}`);
    return `${new URL(page.url()).pathname}: ${impact} ${id}: ${help}${where.join('')}`;
  });
}
