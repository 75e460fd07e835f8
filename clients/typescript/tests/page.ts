/** A page in headless Chromium, served from an origin of its own, which tells how it went. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const CHROMIUM = ["chromium", "chromium-browser", "google-chrome"].find(
    (name) => spawnSync(name, ["--version"]).status === 0,
);
const PATIENCE_MS = 120_000;
const BODY_MAX = 65_536;
const MODULES = fileURLToPath(new URL("../src/", import.meta.url));
const FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
];

/** Why a test that needs a browser is skipped; false where there is one. */
export const NO_BROWSER: string | false = CHROMIUM === undefined ? "needs the browser chromium" : false;

/**
 * What the page tells. script: a module that sets members of `told`; what it throws is `told.error`. files: scripts that
 * are loaded before it, by path. flags: more for the browser.
 */
export async function visited(
    script: string,
    files: Readonly<Record<string, string>> = {},
    flags: readonly string[] = [],
): Promise<unknown> {
    let done: (told: unknown) => void = () => undefined;
    const told = new Promise<unknown>((resolve) => (done = resolve));
    const page = pageOf(script, Object.keys(files));
    const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
        const url = request.url ?? "";
        const module = /^\/src\/((?:[\w-]+\/)?[\w.-]+\.js)$/.exec(url)?.[1];
        const file = module === undefined ? files[url] : join(MODULES, module);
        if (request.method === "POST") {
            let text = "";
            for await (const piece of request) if (text.length < BODY_MAX) text += String(piece);
            response.end();
            done(JSON.parse(text));
        } else if (file !== undefined) {
            response.setHeader("content-type", "text/javascript").end(await readFile(file));
        } else {
            response.setHeader("content-type", "text/html").end(page);
        }
    };
    const server = createServer((request, response) => void answer(request, response).catch(() => response.destroy()));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    const profile = await mkdtemp(join(tmpdir(), "sessionmanager-browser-"));
    const given = [...FLAGS, ...flags, `--user-data-dir=${profile}`, `http://127.0.0.1:${port}/`];
    const browser = spawn(CHROMIUM ?? "", given, { stdio: "ignore" });
    const late = setTimeout(() => done("the page said nothing in time"), PATIENCE_MS);
    try {
        return await told;
    } finally {
        clearTimeout(late);
        browser.kill("SIGKILL");
        if (browser.exitCode === null && browser.signalCode === null) await once(browser, "exit");
        server.closeAllConnections();
        server.close();
        await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
    }
}

const IMPORTS = /^import .*$/gm;

function pageOf(script: string, scripts: readonly string[]): string {
    return `<!doctype html><meta charset="utf-8">
${scripts.map((url) => `<script src="${url}"></script>`).join("\n")}
<script type="module">
${(script.match(IMPORTS) ?? []).join("\n")}
const told = {};
try {
${script.replace(IMPORTS, "")}
} catch (error) {
  told.error = String(error && error.stack);
}
await fetch("/told", { method: "POST", body: JSON.stringify(told) });
</script>`;
}
