/** What all calls share: the token, retries, keys, and which version of each session has been seen. */
import { ProblemError, isObject, isProblem, mediaType, problemOf } from "./problems.js";
import type { Retrier } from "./retry.js";

/** A token, or what gives one: asked at each request, so it should keep what is still good. refused: one that the
 * service has just answered with 401. */
export type Token = string | ((refused: string | undefined) => string | Promise<string>);
/** Of a query. What is undefined or null is left out. */
export type QueryValue = string | number | boolean | null | undefined;
export type Query = Readonly<Record<string, QueryValue>>;

/** One request. */
export interface Request {
    method: string;
    /** With its parameters filled in. */
    path: string;
    /** The session that it is about. */
    session?: string | undefined;
    query?: Query | undefined;
    headers?: Readonly<Record<string, string>>;
    body?: unknown;
    contentType?: string | undefined;
    /** The idempotency key of a write; one is made where none is given. */
    key?: string | undefined;
    minVersion?: number | undefined;
    signal?: AbortSignal | undefined;
    /** That the service was asked to take before it answers. */
    moreMs?: number | undefined;
}

/** What came back: 2xx or 304. `data`: of JSON its value, of text a string, of anything else a Uint8Array. */
export interface Answer<T> {
    status: number;
    headers: Headers;
    data: T;
    /** Whether this is the answer that an earlier request with the same key has got. */
    replayed: boolean;
}

const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
const SESSIONS_MAX = 10_000;
const KEY_BYTES = 16;
const TOKEN = /^[!-~]+$/;
/** By these codes Node says that there was no connection; browsers do not say. */
const NOT_CONNECTED: ReadonlySet<unknown> = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN"]);
const TAG = /^(?:W\/)?"v(\d{1,15})"$/;

/** The newest version of each session that was seen here; of so many sessions, those used last. */
export class Versions {
    private readonly seen = new Map<string, number>();

    of(session: string): number {
        return this.seen.get(session) ?? 0;
    }

    saw(session: string, version: number): void {
        const newest = Math.max(version, this.of(session));
        this.seen.delete(session);
        this.seen.set(session, newest);
        if (this.seen.size > SESSIONS_MAX) {
            for (const oldest of this.seen.keys()) {
                this.seen.delete(oldest);
                break;
            }
        }
    }

    forget(session: string): void {
        this.seen.delete(session);
    }
}

/** What a client is made of; the callers of one client share all but the token. */
export interface Parts {
    baseUrl: string;
    fetch: typeof globalThis.fetch;
    headers: Readonly<Record<string, string>>;
    retrier: Retrier;
    versions: Versions;
}

export class Caller {
    /** Not a member like others: whoever prints a client, or makes JSON of it, does not show the token. */
    readonly #token: Token;

    constructor(
        readonly parts: Parts,
        token: Token,
    ) {
        this.#token = token;
    }

    get token(): Token {
        return this.#token;
    }

    /** The token to send. Throws what gives it; `unauthenticated` for one that no header takes. */
    async bearer(refused?: string): Promise<string> {
        const token: unknown = typeof this.#token === "function" ? await this.#token(refused) : this.#token;
        if (typeof token === "string" && TOKEN.test(token)) return token;
        throw new ProblemError({
            type: "unauthenticated",
            remedy: "fix",
            detail: "the token is missing or empty, or has a space or line feed in it: nothing was sent",
        });
    }

    /**
     * One call with all its tries. A read never shows an older version of a session than was seen here before: it is asked
     * for as anybody's, and again with `Min-Version` where the answer is older. Throws ProblemError, or the reason of the
     * signal.
     */
    async call(request: Request): Promise<Answer<unknown>> {
        const { session } = request;
        const versions = this.parts.versions;
        if (session === undefined || request.method !== "GET" || request.query?.["at_version"] !== undefined) {
            return this.noted(session, await this.tried(request));
        }
        const least = Math.max(request.minVersion ?? 0, versions.of(session));
        const plain = request.minVersion === undefined;
        try {
            const answer = await this.tried(plain ? request : { ...request, minVersion: least });
            const version = versionOf(answer.headers);
            if (!plain || version === undefined || version >= least) return this.noted(session, answer);
        } catch (error) {
            if (isProblem(error, "min-version-ahead")) versions.forget(session);
            if (!plain || least === 0 || !isProblem(error, "not-found")) throw error;
        }
        try {
            return this.noted(session, await this.tried({ ...request, minVersion: least }));
        } catch (error) {
            // The service has gone back behind what it has told (a restored backup): the next read begins anew.
            if (isProblem(error, "min-version-ahead")) versions.forget(session);
            throw error;
        }
    }

    private noted(session: string | undefined, answer: Answer<unknown>): Answer<unknown> {
        const version = versionOf(answer.headers);
        if (session !== undefined && version !== undefined) this.parts.versions.saw(session, version);
        return answer;
    }

    private async tried(request: Request): Promise<Answer<unknown>> {
        const write = request.method !== "GET";
        const key = write ? (request.key ?? newKey()) : undefined;
        const url = this.parts.baseUrl + request.path + search(request.query);
        const [body, contentType] = encoded(request);
        let token = await this.bearer();
        let renewed = false;
        const once = async (ms: number): Promise<Answer<unknown>> => {
            const headers = new Headers({
                accept: "application/json, */*;q=0.5",
                ...this.parts.headers,
                ...request.headers,
            });
            headers.set("authorization", `Bearer ${token}`);
            if (contentType !== undefined) headers.set("content-type", contentType);
            if (key !== undefined) headers.set("idempotency-key", key);
            if (request.minVersion !== undefined) headers.set("min-version", String(request.minVersion));
            return await this.once(url, { method: request.method, headers, body }, ms, request.signal);
        };
        const attempt = async (ms: number): Promise<Answer<unknown>> => {
            try {
                return await once(ms);
            } catch (error) {
                if (!isProblem(error, "unauthenticated") || renewed || typeof this.token === "string") throw error;
                renewed = true;
                token = await this.bearer(token);
                return await once(ms);
            }
        };
        try {
            return await this.parts.retrier.run(attempt, request.signal, request.moreMs);
        } catch (error) {
            if (isProblem(error)) error.key = key;
            throw error;
        }
    }

    private async once(url: string, init: RequestInit, ms: number, signal?: AbortSignal): Promise<Answer<unknown>> {
        const write = init.method !== "GET";
        const limit = new Limit(ms, signal);
        try {
            const response = await this.open(url, init, limit.signal);
            const data = await content(response);
            if (response.ok || response.status === 304) {
                const replayed = response.headers.get("idempotency-replayed") === "true";
                return { status: response.status, headers: response.headers, data, replayed };
            }
            throw problemOf(response.status, response.headers, data, write);
        } catch (error) {
            throw unanswered(error, limit, write, this.parts.baseUrl);
        } finally {
            limit.end();
        }
    }

    /** Send it. No cookies, no cache of a browser between, no redirect followed with a token in hand. */
    async open(url: string, init: RequestInit, signal: AbortSignal): Promise<Response> {
        return await this.parts.fetch(url, {
            ...init,
            signal,
            redirect: "manual",
            credentials: "omit",
            cache: "no-store",
        });
    }
}

/** A time limit and somebody's signal as one signal. */
export class Limit {
    private readonly controller = new AbortController();
    private readonly follow: () => void;
    private timer: ReturnType<typeof setTimeout> | undefined;
    timedOut = false;

    constructor(
        ms: number | undefined,
        private readonly outer: AbortSignal | undefined,
    ) {
        this.follow = () => this.controller.abort(outer?.reason);
        outer?.addEventListener("abort", this.follow, { once: true });
        if (outer?.aborted === true) this.follow();
        if (ms !== undefined) this.restart(ms);
    }

    get signal(): AbortSignal {
        return this.controller.signal;
    }

    /** From now on so long. */
    restart(ms: number): void {
        this.pause();
        this.timer = setTimeout(() => {
            this.timedOut = true;
            this.controller.abort();
        }, ms);
    }

    pause(): void {
        clearTimeout(this.timer);
    }

    /** Whatever still runs under it is cut off. */
    cut(): void {
        this.end();
        this.controller.abort();
    }

    end(): void {
        this.pause();
        this.outer?.removeEventListener("abort", this.follow);
    }
}

/** What it means that no answer came: a write may stand unless nothing was sent, a read was for nothing. */
export function unanswered(error: unknown, limit: Limit, write: boolean, baseUrl: string): unknown {
    if (isProblem(error)) return error;
    if (limit.timedOut) {
        return write
            ? new ProblemError({ type: "outcome-unknown", remedy: "repeat", detail: "no answer came in time" })
            : new ProblemError({ type: "timed-out", remedy: "wait", detail: "no answer came in time" });
    }
    if (limit.signal.aborted) return limit.signal.reason;
    const cause = error instanceof Error ? error.cause : undefined;
    if (!write || NOT_CONNECTED.has(isObject(cause) ? cause["code"] : undefined)) {
        const detail = `nobody answers at ${baseUrl}: is the service up, and is that its address?`;
        return new ProblemError({ type: "unreachable", remedy: "wait", detail, cause: error });
    }
    return new ProblemError({ type: "outcome-unknown", remedy: "repeat", detail: "the connection broke", cause: error });
}

/** Fills the parameters of an operation's path. Throws ProblemError for one that a URL would take for a folder. */
export function filled(template: string, parameters: Readonly<Record<string, string>>): string {
    return template.replace(/\{(\w+)\}/g, (_, name: string) => {
        const value = String(parameters[name] ?? "");
        if (value === "" || value === "." || value === "..") {
            throw new ProblemError({ type: "malformed", remedy: "fix", detail: `${name} is no id` });
        }
        return encodeURIComponent(value);
    });
}

export function search(query: Query | undefined): string {
    const given = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null);
    const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
    return text === "" ? "" : `?${text}`;
}

/** The version in an entity tag; undefined where it has none. */
export function versionOf(headers: Headers): number | undefined {
    const found = TAG.exec(headers.get("etag") ?? "");
    return found === null ? undefined : Number(found[1]);
}

/** 128 bits by chance. Not `randomUUID`, which browsers have on secure pages only. */
function newKey(): string {
    const bytes = crypto.getRandomValues(new Uint8Array(KEY_BYTES));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function encoded({ body, contentType }: Request): [BodyInit | null, string | undefined] {
    if (body === undefined) return [null, undefined];
    if (typeof body === "string" || body instanceof Blob || body instanceof ArrayBuffer || ArrayBuffer.isView(body)) {
        return [body as BodyInit, contentType ?? "application/octet-stream"];
    }
    return [JSON.stringify(body), contentType ?? "application/json"];
}

/** The body of an answer, read to its end, within bounds. */
export async function content(response: Response): Promise<unknown> {
    const bytes = await bounded(response);
    const type = mediaType(response.headers);
    if (type === "application/json" || type.endsWith("+json")) {
        const text = new TextDecoder().decode(bytes);
        try {
            return text === "" ? undefined : (JSON.parse(text) as unknown);
        } catch {
            // Of an error its status is enough.
            if (!response.ok) return undefined;
            throw notOurs(response, "an answer that is no JSON");
        }
    }
    if (type.startsWith("text/")) return new TextDecoder().decode(bytes);
    return bytes.length === 0 ? undefined : bytes;
}

function notOurs(response: Response, detail: string): ProblemError {
    return new ProblemError({ type: "not-ours", remedy: "none", status: response.status, detail });
}

async function bounded(response: Response): Promise<Uint8Array> {
    const reader = response.body?.getReader();
    const parts: Uint8Array[] = [];
    let length = 0;
    for (;;) {
        const part = await reader?.read();
        if (part === undefined || part.done) break;
        length += part.value.length;
        if (length > ANSWER_BYTES_MAX) {
            await reader?.cancel();
            throw notOurs(response, "an answer without end");
        }
        parts.push(part.value);
    }
    const whole = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
        whole.set(part, at);
        at += part.length;
    }
    return whole;
}
