// A world in which every page has something to show: policies, jobs that were refused things, a baseline, a detection.
// Made once, by the API and the lab, when the first scenario asks for it. And the list of the pages.

import { api, call, lab, tokens, until } from './world.mjs';

/** A policy that allows these. */
export function yaml(mode, ...endpoints) {
  const list = endpoints.map((endpoint) => `  ${endpoint}\n`).join('');
  return `egress-policy: ${mode}\nplatform: none\nallowed-endpoints: >\n${list}`;
}

/** Makes a policy over the API, attached where it is said. */
export async function stored(name, text, ...scopes) {
  await api('POST', '/orgs/acme/policies', { name, yaml: text });
  if (scopes.length) await api('POST', `/orgs/acme/policies/${name}/attachments`, { add: scopes });
}

let made;

/** The world; gives back the ids that pages need. */
export function filled() {
  made ??= fill();
  return made;
}

async function fill() {
  await stored('filled', `# What builds need.\n${yaml('block', 'allowed.test:443')}`, 'repo:acme/filled');
  await stored('watched', yaml('audit', 'allowed.test:443'), 'repo:acme/watched');
  await api('PUT', '/orgs/acme/policies/watched', { yaml: yaml('audit', 'cdn-a.test:443') }, { headers: { 'if-match': '*' } });
  await call('PUT', '/orgs/acme/endpoint-sets/mirrors', { yaml: '[cdn-a.test, cdn-b.test]\n' }, { headers: { 'if-none-match': '*' } });
  await call('PUT', '/orgs/acme/endpoint-sets/mirrors', { yaml: '[cdn-a.test, cdn-b.test, "*.cdn.test"]\n' }, { headers: { 'if-match': '*' } });
  await stored('retired', yaml('audit', 'allowed.test:443'), 'repo:acme/retired');
  await api('PUT', '/orgs/acme/policies/retired', { yaml: yaml('block', 'allowed.test:443') }, { headers: { 'if-match': '*' } });
  const retired = (await api('DELETE', '/orgs/acme/policies/retired')).id;
  await api('POST', '/global-block/entries', { pattern: 'attacker.test', reason: 'known for what it does' });
  const first = await lab.begin(3, { repo: 'acme/filled', run_id: 7001 });
  await lab.fetches(3, 'allowed.test');
  await lab.fetches(3, 'evil.test');
  await lab.fetches(3, 'attacker.test');
  await lab.end(3);
  for (const run of [7002, 7003, 7004]) {
    await lab.begin(3, { repo: 'acme/watched', run_id: run });
    await lab.fetches(3, 'cdn-a.test');
    await lab.fetches(3, 'cdn-b.test');
    await lab.end(3);
  }
  const refused = await until('the events of the job', async () => {
    const { items } = await api('GET', `/jobs/${first.id}/events?verdict=refuse`);
    return items.find(({ name }) => name === 'evil.test');
  });
  await until('the baseline of the repository', async () => {
    const { runs } = await api('GET', '/baselines?scope=repo:acme/watched');
    return runs >= 3;
  });
  const detection = await until('the detection of the refusal', async () => {
    const { items } = await api('GET', '/detections?owner=acme');
    return items.find(({ evidence }) => evidence.endpoint === 'evil.test');
  });
  // A machine that no job holds: it spoke before anybody registered.
  await lab.fetches(2, 'evil.test');
  const session = (await api('POST', '/sessions', { token: tokens.viewer })).id;
  return { job: first.id, event: refused.id, detection: detection.id, retired, session };
}

/** Every page: the name of its pictures and its address. */
export function PAGES({ job, event, detection, retired, session }) {
  const acme = '/ui/orgs/acme';
  return [
    ['overview', '/ui/'],
    ['organizations', '/ui/orgs'],
    ['policies', `${acme}/policies`],
    ['policy', `${acme}/policies/filled`],
    ['policy-edit', `${acme}/policies/filled/edit`],
    ['policy-new', `${acme}/new-policy`],
    ['policy-attach', `${acme}/policies/filled/attach`],
    ['policy-detach', `${acme}/policies/filled/detach`],
    ['policy-delete', `${acme}/policies/filled/delete`],
    ['policy-history', `${acme}/policies/watched/history`],
    ['policy-rollback', `${acme}/policies/watched/rollback?to=1`],
    ['policy-version', `${acme}/policies/watched/versions/1`],
    ['policies-deleted', `${acme}/policies?deleted=true`],
    ['policy-deleted', `${acme}/policies/retired/history?id=${retired}`],
    ['policy-again', `${acme}/policies/retired/again?id=${retired}&version=1`],
    ['policy-mode', `${acme}/policies/filled/mode?to=audit`],
    ['policies-selected', `${acme}/selected?do=detach&name=filled&name=watched`],
    ['endpoint-sets', `${acme}/endpoint-sets`],
    ['endpoint-set', `${acme}/endpoint-sets/mirrors`],
    ['endpoint-set-history', `${acme}/endpoint-sets/mirrors/history`],
    ['endpoint-set-edit', `${acme}/endpoint-sets/mirrors/edit`],
    ['endpoint-set-new', `${acme}/new-endpoint-set`],
    ['baselines', '/ui/baselines'],
    ['baseline', '/ui/baselines/scope?scope=repo:acme/watched'],
    ['coverage', '/ui/coverage'],
    ['unidentified', '/ui/unidentified'],
    ['runs', '/ui/runs'],
    ['run', '/ui/runs/acme/watched/7002'],
    ['job', `/ui/jobs/${job}`],
    ['events', '/ui/events'],
    ['event', `/ui/events?id=${event}`],
    ['detections', '/ui/detections'],
    ['detection', `/ui/detections/${detection}`],
    ['detection-rules', '/ui/detections/rules'],
    ['gateways', '/ui/gateways'],
    ['global-block', '/ui/global-block'],
    ['global-block-import', '/ui/global-block/import'],
    ['connect', '/ui/connect'],
    ['connect-network', '/ui/connect/net0'],
    ['settings', '/ui/settings'],
    ['tokens', '/ui/settings/tokens'],
    ['token-new', '/ui/settings/tokens/new'],
    ['sessions', '/ui/settings/sessions'],
    ['session-end', `/ui/settings/sessions/${session}/end`],
    ['audit-log', '/ui/audit-log'],
  ];
}
