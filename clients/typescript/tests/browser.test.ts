/** The same files in a browser, from a page of another origin: needs Chromium, `CORS_ORIGINS` of the service and it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { NO_BROWSER, visited } from "./page.js";
import { ADDRESS, SERVED, TOKEN } from "./service.js";

const NEEDS = { ...SERVED, skip: SERVED.skip || NO_BROWSER };

/** What the page does; it tells its own server how it went. */
const PAGE = `
import { SessionManager, isProblem } from "./src/index.js";
  const manager = new SessionManager({ baseUrl: ${JSON.stringify(ADDRESS)}, token: ${JSON.stringify(TOKEN)} });
  const { session } = await manager.create({ type: "text" });
  const feed = session.events({ after: 0 });
  const me = await session.join({ kind: "client", identity: "browser" });
  await me.session.append({ type: "message", role: "user", content: "from a page" });
  for await (const one of feed) {
    if (one.kind !== "entry" || one.entry.type !== "message") continue;
    told.heard = one.entry.content;
    break;
  }
  const state = await session.read();
  told.patched = (await session.patch({ labels: ["page"] }, { ifMatch: state.version })).labels;
  told.problem = await session.patch({ labels: [] }, { ifMatch: 1 }).catch((error) => isProblem(error) && error.type);
  told.version = manager.caller.parts.versions.of(session.id) >= state.version;
  await me.leave();
`;

test("a page in a browser writes, follows and joins", NEEDS, async () => {
    const expected = { heard: "from a page", patched: ["page"], problem: "version-conflict", version: true };
    assert.deepEqual(await visited(PAGE), expected);
});
