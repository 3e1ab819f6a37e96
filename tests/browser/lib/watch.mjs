// What every page is watched for while a scenario uses it: errors of scripts, whatever the content security policy stopped,
// answers that no page should cause, and jumps of the layout. Collects; `Watch.faults` tells what was seen.

/** The jumps of a page's life together, by the measure of the Layout Instability API; users see a page move from here. */
const JUMP = 0.1;

export class Watch {
  #faults = [];
  #log = [];
  #jumps = new Map();
  #allowed = [];

  /** Watches every page of a browser context. */
  async over(context) {
    await context.exposeBinding('tidegateWatch', (_, kind, text, jump) => this.#told(kind, text, jump));
    await context.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        const { effectiveDirective, blockedURI, sourceFile, lineNumber } = event;
        window.tidegateWatch('policy', `${effectiveDirective} stopped ${blockedURI} at ${sourceFile}:${lineNumber}`);
      });
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) {
          if (entry.hadRecentInput) continue;
          const what = entry.sources.map(({ node }) => node?.outerHTML?.slice(0, 120) ?? String(node?.nodeName));
          window.tidegateWatch('jump', `${location.pathname}: ${what.join(' | ')}`, [performance.timeOrigin, entry.value]);
        }
      }).observe({ type: 'layout-shift', buffered: true });
    });
    context.on('page', (page) => this.#attend(page));
  }

  /** This scenario causes answers of this status on purpose. */
  allow(...statuses) {
    this.#allowed.push(...statuses);
  }

  /** Everything that the browser's console said. */
  get log() {
    return this.#log.join('\n');
  }

  /** What no page should do. */
  get faults() {
    const jumps = [...this.#jumps].filter(([, { sum }]) => sum >= JUMP);
    return [...this.#faults, ...jumps.map(([, { sum, what }]) => `the layout jumped by ${sum.toFixed(3)}: ${what.join('\n    ')}`)];
  }

  #attend(page) {
    page.on('console', (message) => this.#said(message));
    page.on('pageerror', (error) => this.#faults.push(`a script failed: ${error.stack ?? error}`));
    page.on('response', (response) => this.#answered(response));
    page.on('dialog', (dialog) => {
      // A page may ask whether typed text shall be lost; nothing else of ours opens a dialog.
      if (dialog.type() !== 'beforeunload') this.#faults.push(`a dialog opened: ${dialog.message()}`);
      void dialog.accept();
    });
  }

  #said(message) {
    const line = `${message.type()}: ${message.text()} (${message.location().url})`;
    this.#log.push(line);
    // The status of an answer is judged where it is seen.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) this.#faults.push(line);
  }

  #answered(response) {
    const status = response.status();
    if (status < 400 || this.#allowed.includes(status)) return;
    this.#faults.push(`${response.request().method()} ${response.url()} was answered ${status}`);
  }

  #told(kind, text, jump) {
    if (kind === 'policy') {
      this.#faults.push(`the content security policy: ${text}`);
      return;
    }
    // Each visit of a page has a moment of its own that it began at.
    const [visit, value] = jump;
    const jumped = this.#jumps.get(visit) ?? { sum: 0, what: [] };
    jumped.sum += value;
    jumped.what.push(text);
    this.#jumps.set(visit, jumped);
  }
}
