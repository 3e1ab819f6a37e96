// Who may come in, how, and for how long.

import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';

import { settled } from '../lib/visit.mjs';
import { api, call, session, tokens, until } from '../lib/world.mjs';

/** Fills in the form of the login page. */
async function sign_in(page, token) {
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
}

export async function a_token_signs_in_and_signing_out_ends_it(visits) {
  const page = await visits.page(null);
  await page.goto('/');
  await page.waitForURL('**/ui/login*');
  await visits.look(page, 'login');
  await sign_in(page, tokens.editor);
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
  const { cookies } = await page.context().storageState();
  const cookie = cookies.find(({ name }) => name === 'tidegate');
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path], [true, 'Lax', '/']);
  assert.notEqual(cookie.value, tokens.editor, 'the cookie is the session, not the token that was shown');
  assert.equal((await call('GET', '/session', undefined, { token: cookie.value })).status, 200);

  // A part that comes late would be refused, which no page should cause.
  await settled(page);
  await page.locator('summary').filter({ hasText: 'the editor' }).click();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByText('You are signed out.').waitFor();
  await page.goto('/ui/');
  await page.waitForURL('**/ui/login*');
  // It is the session that ended, not only its cookie.
  assert.equal((await call('GET', '/session', undefined, { token: cookie.value })).status, 401);
}

export async function signing_out_while_parts_still_load_ends_at_the_farewell(visits) {
  visits.watch.allow(401);
  const page = await visits.page('viewer');
  // A part is answered when the form is on its way, the form when the next part is asked for: the first was dealt with.
  const steps = new EventEmitter();
  const [left, handled] = [once(steps, 'left'), once(steps, 'handled')];
  let asked = 0;
  await page.route('**/ui/overview/*', async (route) => {
    asked += 1;
    if (asked === 2) steps.emit('handled');
    await left;
    await route.fulfill({ status: 401 });
  });
  await page.route('**/ui/logout', async (route) => {
    steps.emit('left');
    await handled;
    await route.continue();
  });
  await page.goto('/ui/');
  await page.locator('[aria-busy=true]').first().waitFor();
  await page.locator('summary').filter({ hasText: 'viewer' }).click();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByText('You are signed out.').waitFor();
}

export async function a_wrong_token_is_told_where_it_was_typed(visits) {
  visits.watch.allow(422, 403);
  const page = await visits.page(null);
  await page.goto('/ui/login?next=/ui/coverage');
  await sign_in(page, 'tga_nobodys');
  await page.getByRole('alert').waitFor();
  assert.equal(await page.getByLabel('Token').getAttribute('aria-invalid'), 'true');
  // A runner's token is good for runners only.
  const { token } = await api('POST', '/tokens', { role: 'runner', name: 'a runner', owners: ['acme'] });
  await sign_in(page, token);
  await page.getByRole('alert').filter({ hasText: 'runner' }).waitFor();
  await sign_in(page, tokens.viewer);
  await page.waitForURL('**/ui/coverage');
}

export async function a_session_that_ended_leads_to_the_login_page_and_back(visits) {
  const soon = new Date(Date.now() + 4_000).toISOString();
  const made = await api('POST', '/tokens', { role: 'viewer', name: 'short', owners: [], expires_at: soon });
  const page = await visits.page(null, { token: made.token });
  await page.goto('/ui/coverage?search=web');
  await page.getByRole('heading', { level: 1 }).waitFor();
  const { cookies } = await page.context().storageState();
  const { value } = cookies.find(({ name }) => name === 'tidegate');
  await until('the session to end with its token', async () => {
    const { status } = await call('GET', '/session', undefined, { token: value });
    return status === 401;
  });
  await page.reload();
  await page.waitForURL('**/ui/login*');
  await sign_in(page, tokens.viewer);
  await page.waitForURL('**/ui/coverage?search=web');
}

export async function a_session_that_is_revoked_ends_at_once(visits) {
  const made = await api('POST', '/tokens', { role: 'viewer', name: 'to be revoked', owners: [] });
  const page = await visits.page(null, { token: made.token });
  await page.goto('/ui/');
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
  // A part that comes late would lead to the login page by itself.
  await settled(page);
  await api('DELETE', `/tokens/${made.id}`);
  await page.goto('/ui/');
  await page.waitForURL('**/ui/login*');
}

export async function what_was_typed_outlives_the_session_that_it_was_typed_in(visits) {
  // The check as it is typed is refused, and the form is held.
  visits.watch.allow(401, 403);
  const text = 'egress-policy: audit\n# typed for an hour\n';
  const made = await api('POST', '/tokens', { role: 'editor', name: 'slow typist', owners: [] });
  const page = await visits.page(null, { token: made.token });
  await page.goto('/ui/orgs/acme/new-policy');
  await page.getByLabel('Name', { exact: true }).fill('typed');
  await page.getByLabel('Document', { exact: true }).fill(text);
  await api('DELETE', `/tokens/${made.id}`);
  const checked = page.waitForResponse((answer) => answer.url().endsWith('/check'));
  await page.getByLabel('Document', { exact: true }).fill(text);
  assert.equal((await checked).status(), 401);
  await page.getByRole('button', { name: 'Create policy' }).click();
  await page.getByText('nothing that you typed is lost').waitFor();
  await visits.look(page, 'session-ended');
  const elsewhere = page.context().waitForEvent('page');
  await page.getByRole('link', { name: 'Sign in in a new tab' }).click();
  await sign_in(await elsewhere, tokens.editor);
  await (await elsewhere).getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
  await page.getByRole('button', { name: 'Send it again' }).click();
  await page.getByRole('heading', { level: 1, name: 'typed' }).waitFor();
  assert.equal((await api('GET', '/orgs/acme/policies/typed')).yaml, text);
}

export async function a_form_from_another_site_changes_nothing(visits) {
  visits.watch.allow(403);
  const page = await visits.page('admin');
  await page.goto('/ui/');
  // What a page of another site could send with the person's cookie: a plain form.
  const value = await session(tokens.admin);
  const answers = [];
  for (const headers of [{ 'sec-fetch-site': 'cross-site' }, { origin: 'https://evil.test' }]) {
    const answer = await page.request.post('/ui/logout', { headers: { ...headers, cookie: `tidegate=${value}` }, maxRedirects: 0 });
    answers.push(answer.status());
  }
  assert.deepEqual(answers, [403, 403]);
  assert.equal((await call('GET', '/session', undefined, { token: value })).status, 200);
}

export async function people_log_in_at_the_issuer_and_are_who_their_groups_say(visits) {
  const page = await visits.page(null);
  await page.goto('/ui/login?next=/ui/coverage');
  await page.getByRole('link', { name: /login\.test/ }).click();
  await page.getByRole('heading', { name: 'Who are you?' }).waitFor();
  await page.getByRole('link', { name: 'alice' }).click();
  await page.waitForURL('**/ui/coverage');
  await page.locator('summary').filter({ hasText: 'alice@example.test' }).filter({ hasText: 'editor' }).waitFor();

  const other = await visits.page(null);
  await other.goto('/ui/login');
  await other.getByRole('link', { name: /login\.test/ }).click();
  await other.getByRole('link', { name: 'bob' }).click();
  await other.waitForURL('**/ui/');
  await other.locator('summary').filter({ hasText: 'viewer' }).waitFor();
  // The one who did something in a history is the person.
  await api('POST', '/orgs/acme/policies', { name: 'of-alice', yaml: 'egress-policy: audit\n' }, {
    token: (await page.context().cookies()).find(({ name }) => name === 'tidegate').value,
  });
  const { items } = await api('GET', '/orgs/acme/policies/of-alice/history');
  assert.equal(items[0].actor.subject, 'alice@example.test');
}

export async function a_person_without_a_role_is_told_and_gets_no_session(visits) {
  visits.watch.allow(403);
  const page = await visits.page(null);
  await page.goto('/ui/login');
  await page.getByRole('link', { name: /login\.test/ }).click();
  await page.getByRole('link', { name: 'mallory' }).click();
  await page.getByRole('alert').filter({ hasText: 'mallory@example.test' }).waitFor();
  const cookies = await page.context().cookies();
  assert.ok(!cookies.some(({ name, value }) => name === 'tidegate' && value !== ''));
}
