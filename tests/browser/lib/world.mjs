// What is outside of the browser: the control plane's API, and the lab's hands, which begin jobs and run commands on runners.
// Expects success of what it is asked to do; whoever wants to see a refusal asks `call`.

import net from 'node:net';

const told = JSON.parse(process.env.BROWSER_WORLD);

/** Where the web UI and the API are. */
export const url = told.url;
/** The tokens by role: admin, editor, viewer. */
export const tokens = told.tokens;

/** A request to the API; gives back its status and its answer as JSON, or as text where it is none. */
export async function call(method, path, body, { token = tokens.admin, headers = {} } = {}) {
  const init = { method, headers: { authorization: `Bearer ${token}`, ...headers } };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers['content-type'] = 'application/json';
  }
  const answer = await fetch(`${url}/api/v1${path}`, init);
  const text = await answer.text();
  try {
    return { status: answer.status, headers: answer.headers, body: JSON.parse(text) };
  } catch {
    return { status: answer.status, headers: answer.headers, body: text };
  }
}

/** The same, for what has to succeed; gives back the answer's body. */
export async function api(method, path, body, options) {
  const answer = await call(method, path, body, options);
  if (answer.status >= 300) {
    throw new Error(`${method} ${path} was answered ${answer.status}: ${JSON.stringify(answer.body)}`);
  }
  return answer.body;
}

/** A session, as the login page would make it of a token: its cookie's text. */
export async function session(token) {
  return (await api('POST', '/sessions', { token })).token;
}

/** Probes until it gives back something true, and gives that back; tells what was seen last when it never does. */
export async function until(what, probe, patience = 10_000) {
  const end = Date.now() + patience;
  let last;
  for (;;) {
    try {
      last = await probe();
      if (last) return last;
    } catch (error) {
      last = error.message;
    }
    if (Date.now() > end) throw new Error(`waited ${patience} ms for ${what}; last seen: ${JSON.stringify(last)}`);
    await new Promise((next) => setTimeout(next, 20));
  }
}

/** The lab's hands: one question after another over a socket. */
class Hands {
  #socket;
  #waiting = new Map();
  #rest = '';
  #number = 0;

  async open(path) {
    this.#socket = net.connect(path);
    this.#socket.setEncoding('utf8');
    this.#socket.on('data', (text) => this.#read(text));
    await new Promise((done, fail) => this.#socket.once('connect', done).once('error', fail));
  }

  close() {
    this.#socket.end();
  }

  ask(question) {
    this.#number += 1;
    const id = this.#number;
    const answered = new Promise((done, fail) => this.#waiting.set(id, { done, fail }));
    this.#socket.write(`${JSON.stringify({ id, ...question })}\n`);
    return answered;
  }

  #read(text) {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop();
    for (const line of lines) {
      const { id, done, failed } = JSON.parse(line);
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (failed === undefined) waiting.done(done);
      else waiting.fail(new Error(failed));
    }
  }
}

const hands = new Hands();

/** What only the lab can do. Runners are numbered from 0. */
export const lab = {
  open: () => hands.open(process.env.BROWSER_HANDS),
  close: () => hands.close(),
  /** Shows a line to whoever runs the tests. */
  say: (text) => hands.ask({ do: 'say', text }),
  /** Runs a command line on a runner; gives back `code`, `out` and `err`. */
  run: (runner, ...line) => hands.ask({ do: 'run', runner, line }),
  /** Begins a job on a runner; gives back what the gateway answered. */
  begin: (runner, job) =>
    hands.ask({ do: 'register', runner, job: { workflow: 'ci.yml', job: 'build', run_id: 1001, ...job } }),
  /** Ends a runner's job. */
  end: (runner) => hands.ask({ do: 'end', runner }),
  /** Fetches a page on a runner; `true` when it came. */
  async fetches(runner, name) {
    const line = ['curl', '-sS', '-m', '5', '-o', '/dev/null', `https://${name}/`];
    return (await lab.run(runner, ...line)).code === 0;
  },
};
