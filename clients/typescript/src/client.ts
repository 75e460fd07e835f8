/** The service seen from afar: every call of its contract, with types, and handles for sessions. */
import { type Answer, Caller, type Parts, type Query, type Token, Versions, filled } from "./caller.js";
import { type Feed, type FeedOptions, type TenantFeedEvent, tenantFeed } from "./feed.js";
import type { Operations } from "./generated/operations.gen.js";
import type { NewSession, Session as SessionState, Summary } from "./generated/types.gen.js";
import { ProblemError } from "./problems.js";
import { RETRY, Retrier, type RetryPolicy } from "./retry.js";
import { Session } from "./session.js";

/** An operation as the documentation names it: `"POST /sessions/{id}/entries"`. */
export type Operation = keyof Operations;
/** What an operation answers, over all its statuses. */
export type Result<K extends Operation> = Operations[K]["responses"][keyof Operations[K]["responses"]];
/** Members of `metadata` to filter a list by: `{"metadata.queue": "billing"}`. */
export type Grouped = Readonly<Record<`metadata.${string}`, string | number | boolean | null>>;

/** How a call is made, beside what its operation takes. */
export interface CallOptions {
    /** Idempotency key of a write, 1–255 visible ASCII characters; one is made where none is given. */
    key?: string;
    /** The version that is changed, or `*` for whatever is newest. */
    ifMatch?: number | "*";
    /** Never answer an older version. Of itself a client asks for what it has seen. */
    minVersion?: number;
    contentType?: string;
    headers?: Readonly<Record<string, string>>;
    signal?: AbortSignal;
    /** For each try, beyond the policy's own: what the service was asked to wait, as by `wait_seconds`. */
    moreMs?: number;
}

type Taken<K extends Operation> = Omit<Pick<Operations[K]["data"], "path" | "query" | "body">, "query"> &
    (K extends "GET /sessions"
        ? { query?: Operations[K]["data"]["query"] & Partial<Grouped> }
        : Pick<Operations[K]["data"], "query">) &
    CallOptions;
/** The argument of a call: left out where nothing of it is needed. */
export type Arguments<K extends Operation> = {} extends Taken<K> ? [given?: Taken<K>] : [given: Taken<K>];

export interface Options {
    /** Where the service is, with a path if it has one: `https://sessions.example.org`. */
    baseUrl: string;
    /** A token, or a function that gives one and is told of one that was refused. */
    token: Token;
    /** In place of the platform's own. */
    fetch?: typeof globalThis.fetch;
    retry?: Partial<RetryPolicy>;
    /** With every request, such as `X-Tenant` for a token of all tenants. */
    headers?: Readonly<Record<string, string>>;
    /** Of the jitter, 0–1. */
    random?: () => number;
}

const PAGE = 200;
const BASE_URL = /^https?:\/\/[^/@?#]+(\/[^?#]*)?$/;
const RELATIVE_URL = /^(https?:\/\/[^/@?#]+)?(\/[^?#]*)?$/;

/** What `call` reads of its argument, whatever the operation. */
interface Given extends CallOptions {
    path?: Readonly<Record<string, string>>;
    query?: Query;
    body?: unknown;
}

export class SessionManager {
    readonly caller: Caller;

    constructor(options: Options | Caller) {
        this.caller = options instanceof Caller ? options : new Caller(partsOf(options), options.token);
    }

    /** The same service for somebody else. Retries and what was seen of sessions are shared. */
    withToken(token: Token): SessionManager {
        return new SessionManager(new Caller(this.caller.parts, token));
    }

    /**
     * Any call of the service: `call("POST /sessions/{id}/entries", {path: {id}, body: {entries}})`. A write has an
     * idempotency key, so it is done once however often it is tried. Throws ProblemError.
     */
    async call<K extends Operation>(operation: K, ...given: Arguments<K>): Promise<Result<K>> {
        return (await this.ask(operation, ...given)).data;
    }

    /** The same with status and headers. With `If-None-Match` it may be a 304, whose `data` is undefined. */
    async ask<K extends Operation>(operation: K, ...args: Arguments<K>): Promise<Answer<Result<K>>> {
        const given = (args[0] ?? {}) as Given;
        const [method = "", template = ""] = operation.split(" ", 2);
        const { ifMatch } = given;
        const headers = {
            ...(ifMatch === undefined ? {} : { "if-match": ifMatch === "*" ? "*" : `"v${ifMatch}"` }),
            ...given.headers,
        };
        const answer = await this.caller.call({
            method,
            path: filled(template, given.path ?? {}),
            session: template.startsWith("/sessions/{id}") ? given.path?.["id"] : undefined,
            query: given.query,
            headers,
            body: given.body,
            contentType: given.contentType,
            key: given.key,
            minVersion: given.minVersion,
            signal: given.signal,
            moreMs: given.moreMs,
        });
        return answer as Answer<Result<K>>;
    }

    /** A handle; nothing is asked. */
    session(id: string): Session {
        return new Session(this, id);
    }

    /** A new session and what it is at first. Throws `already-exists`, `erased`. */
    async create(body: NewSession = {}, options: CallOptions = {}): Promise<{ session: Session; state: SessionState }> {
        const state = await this.call("POST /sessions", { ...options, body });
        this.caller.parts.versions.saw(state.id, state.version);
        return { session: this.session(state.id), state };
    }

    /** Every summary that matches, newest first, page after page; at most 10 s old. */
    sessions(
        query: Operations["GET /sessions"]["data"]["query"] & Partial<Grouped> = {},
    ): AsyncGenerator<Summary, void, undefined> {
        return walk((more) => this.call("GET /sessions", { query: { limit: PAGE, ...query, ...more } }));
    }

    /** Follow all sessions of the tenant. types: `session.*,error`; left out = all. after: a feed's cursor. */
    events(options: FeedOptions & { after?: string; types?: string } = {}): Feed<TenantFeedEvent> {
        return tenantFeed(this.caller, options.types, options.after, options);
    }
}

function partsOf(options: Options): Parts {
    const { random = Math.random } = options;
    // A page may name its own host by leaving it out; nobody else has one.
    const form = "location" in globalThis ? RELATIVE_URL : BASE_URL;
    if (!form.test(options.baseUrl)) {
        throw new TypeError("baseUrl is the address of the service: http(s)://host[:port][/prefix]");
    }
    return {
        baseUrl: options.baseUrl.replace(/\/+$/, ""),
        // Browsers refuse a `fetch` that is called as a method of something else.
        fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
        headers: { ...options.headers },
        retrier: new Retrier({ ...RETRY, ...options.retry }, random),
        versions: new Versions(),
    };
}

/** A page of a list. */
interface Page<T> {
    items: T[];
    next_cursor: string | null;
}

/** Every item of a list, page after page; a page is asked for when the one before is used up. */
export async function* walk<T>(
    fetch: (more: { cursor?: string }) => Promise<Page<T>>,
): AsyncGenerator<T, void, undefined> {
    let cursor: string | undefined;
    for (;;) {
        const page = await fetch(cursor === undefined ? {} : { cursor });
        yield* page.items;
        if (page.next_cursor === null) return;
        if (page.next_cursor === cursor) {
            throw new ProblemError({ type: "not-ours", remedy: "none", detail: "a cursor that leads nowhere" });
        }
        cursor = page.next_cursor;
    }
}
