/** The same files in a browser, from a page of another origin: needs Chromium, `CORS_ORIGINS` of the service and it. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { ADDRESS, SERVED, TOKEN } from "./service.js";

const CHROMIUM = ["chromium", "chromium-browser", "google-chrome"].find(
    (name) => spawnSync(name, ["--version"]).status === 0,
);
const PATIENCE_MS = 45_000;
const BODY_MAX = 65_536;
const MODULES = fileURLToPath(new URL("../src/", import.meta.url));
const NEEDS = { ...SERVED, skip: SERVED.skip || (CHROMIUM === undefined ? "needs the browser chromium" : false) };

/** What the page does; it tells its own server how it went. */
const PAGE = `<!doctype html><meta charset="utf-8"><script type="module">
import { SessionManager, isProblem } from "./src/index.js";
const told = {};
try {
  const manager = new SessionManager({ baseUrl: ${JSON.stringify(ADDRESS)}, token: ${JSON.stringify(TOKEN)} });
  const { session } = await manager.create({ type: "text" });
  const feed = session.events({ after: 0 });
  const me = await session.join({ kind: "client", identity: "browser" });
  await me.session.append({ type: "message", role: "user", content: "from a page" });
  for await (const one of feed) if (one.kind === "entry" && one.entry.type === "message") { told.heard = one.entry.content; break; }
  const state = await session.read();
  told.patched = (await session.patch({ labels: ["page"] }, { ifMatch: state.version })).labels;
  told.problem = await session.patch({ labels: [] }, { ifMatch: 1 }).catch((error) => isProblem(error) && error.type);
  told.version = manager.caller.parts.versions.of(session.id) >= state.version;
  await me.leave();
} catch (error) {
  told.error = String(error && error.stack);
}
await fetch("/told", { method: "POST", body: JSON.stringify(told) });
</script>`;

test("a page in a browser writes, follows and joins", NEEDS, async () => {
    let done: (told: unknown) => void = () => undefined;
    const told = new Promise<unknown>((resolve) => (done = resolve));
    const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
        const file = /^\/src\/((?:generated\/)?[\w.]+\.js)$/.exec(request.url ?? "");
        if (request.method === "POST") {
            let text = "";
            for await (const piece of request) if (text.length < BODY_MAX) text += String(piece);
            response.end();
            done(JSON.parse(text));
        } else if (file?.[1] !== undefined) {
            response.setHeader("content-type", "text/javascript").end(await readFile(join(MODULES, file[1])));
        } else {
            response.setHeader("content-type", "text/html").end(PAGE);
        }
    };
    const server = createServer((request, response) => void answer(request, response).catch(() => response.destroy()));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    const profile = await mkdtemp(join(tmpdir(), "sessionmanager-browser-"));
    const flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
    ];
    const browser = spawn(CHROMIUM ?? "", [...flags, `--user-data-dir=${profile}`, `http://127.0.0.1:${port}/`], {
        stdio: "ignore",
    });
    const late = setTimeout(() => done("the page said nothing in time"), PATIENCE_MS);
    try {
        const expected = { heard: "from a page", patched: ["page"], problem: "version-conflict", version: true };
        assert.deepEqual(await told, expected);
    } finally {
        clearTimeout(late);
        browser.kill("SIGKILL");
        if (browser.exitCode === null && browser.signalCode === null) await once(browser, "exit");
        server.closeAllConnections();
        server.close();
        await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
    }
});
