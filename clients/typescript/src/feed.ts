/**
 * Feeds that go on by themselves: whatever ends a connection, the next one begins after the last event that came.
 * `docs/reference/events.md` says what the service says in a feed.
 */
import { type Caller, Limit, type Query, content, search, unanswered } from "./caller.js";
import type { Entry } from "./generated/types.gen.js";
import { ProblemError, isObject, isProblem, mediaType, problemOf } from "./problems.js";
import { sleep } from "./retry.js";
import { Parser, type ServerEvent } from "./sse.js";

/** Something that nobody keeps: a partial word, a level, typing. */
export interface Signal {
    type: string;
    ephemeral: true;
    at: string;
    actor: string;
    participant?: string;
    data?: unknown;
}

/** The place to go on from is not there (any more): read `location`; the feed goes on after `after`. */
export interface Resync {
    reason: string;
    location: string;
    after: number | string;
}

/** Something that happened in the tenant, as a CloudEvent 1.0: `subject` is the session, `data` the entry. */
export interface TenantEvent {
    specversion: string;
    id: string;
    source: string;
    type: string;
    subject: string;
    time: string;
    datacontenttype: string;
    data: Entry;
}

/** What a feed of a session gives. */
export type SessionEvent =
    { kind: "entry"; entry: Entry } | { kind: "signal"; signal: Signal } | { kind: "resync"; resync: Resync };

/** What a feed of a tenant gives. */
export type TenantFeedEvent = { kind: "event"; event: TenantEvent } | { kind: "resync"; resync: Resync };

export interface FeedOptions {
    /** Ends the feed: the iteration throws its reason. */
    signal?: AbortSignal | undefined;
    /** How long the service may be away before the feed gives up. */
    patienceMs?: number | undefined;
}

export const PATIENCE_MS = 600_000;
/** A connection that is silent for so long is dead, until `hello` says how often the service says something. */
const SILENCE_MS = 45_000;
const SILENCES = 3;
const SILENCE_MS_MIN = 1_000;
/** Before a feed is opened anew, where the service does not say when. */
const AGAIN_MS = 2_000;
const AGAIN_MS_MAX = 30_000;
const DOUBLINGS_MAX = 8;
/** Events of a tenant that are remembered, so that the overlap of two connections is given once. */
const SEEN_MAX = 4_096;

/** What `hello`, `goaway` and their like say. */
interface Control {
    after?: number | string;
    heartbeat_seconds?: number;
    retry_ms?: number;
}

/** How a feed is made. read: an event → what is given, undefined = nothing. */
interface FeedParts<E> {
    caller: Caller;
    path: string;
    query: Query;
    after: number | string | undefined;
    /** The ids of its events are numbers that only grow. */
    ordered: boolean;
    read: (event: ServerEvent) => E | undefined;
    options: FeedOptions;
}

/**
 * An endless iteration: `for await (const event of feed)`. Leave it with `break`, `close()` or the signal; iterate it
 * again to go on after `cursor`, which may be kept to continue in another process.
 *
 * Throws from the iteration: `erased`; `unauthenticated` once the token is over and there is no other; what else the
 * service refuses; what makes it unreachable, once it was so for the whole patience.
 */
export class Feed<E> implements AsyncIterable<E> {
    /** After what the next connection goes on. */
    cursor: number | string | undefined;
    private silenceMs = SILENCE_MS;
    private againMs = AGAIN_MS;
    private openAt = 0;
    /** Not shown by whoever prints a feed. */
    #token = "";
    #refused: string | undefined;
    private renewed = false;
    private tries = 0;
    private wellAt: number | undefined;
    private readonly closing = new AbortController();

    constructor(private readonly parts: FeedParts<E>) {
        this.cursor = parts.after;
        parts.options.signal?.addEventListener("abort", () => this.closing.abort(parts.options.signal?.reason), {
            once: true,
            signal: this.closing.signal,
        });
        if (parts.options.signal?.aborted === true) this.closing.abort(parts.options.signal.reason);
    }

    /** Leave it: an iteration that waits ends. */
    close(): void {
        this.closing.abort(CLOSED);
    }

    async *[Symbol.asyncIterator](): AsyncGenerator<E, void, undefined> {
        for (;;) {
            try {
                yield* this.connection();
            } catch (error) {
                if (this.closing.signal.aborted) return this.leave();
                if (!isProblem(error)) throw error;
                try {
                    await this.pauseOrThrow(error);
                } catch (reason) {
                    if (this.closing.signal.aborted) return this.leave();
                    throw reason;
                }
            }
        }
    }

    /** The end, as a `return` where it was closed, else the signal's reason. */
    private leave(): void {
        if (this.closing.signal.reason !== CLOSED) throw this.closing.signal.reason as Error;
    }

    /** One connection, to its end. Returns where the service has asked to come back, throws what else ended it. */
    private async *connection(): AsyncGenerator<E, void, undefined> {
        await sleep(Math.max(0, this.openAt - performance.now()), this.closing.signal);
        const limit = new Limit(this.silenceMs, this.closing.signal);
        try {
            const reader = await this.opened(limit);
            const parser = new Parser();
            this.renewed = false;
            for (;;) {
                limit.restart(this.silenceMs);
                const { done, value } = await reader.read();
                // Whoever reads slowly is not taken for a service that is silent.
                limit.pause();
                if (done) throw new ProblemError({ type: "unreachable", remedy: "wait", detail: "the feed was cut" });
                this.wellAt = performance.now();
                this.tries = 0;
                for (const event of parser.push(value)) {
                    if (event.retryMs !== undefined) this.againMs = Math.min(event.retryMs, AGAIN_MS_MAX);
                    if (this.control(event)) {
                        if (event.name === "goaway" || event.name === "expired") return;
                    } else {
                        const given = this.given(event);
                        if (given !== undefined) yield given;
                    }
                }
            }
        } catch (error) {
            throw unanswered(error, limit, false, this.parts.caller.parts.baseUrl);
        } finally {
            limit.cut();
        }
    }

    private async opened(limit: Limit): Promise<ReadableStreamDefaultReader<Uint8Array>> {
        const { caller, path, query } = this.parts;
        this.#token = await caller.bearer(this.#refused);
        this.#refused = undefined;
        const headers = new Headers({ ...caller.parts.headers, accept: "text/event-stream" });
        headers.set("authorization", `Bearer ${this.#token}`);
        if (this.cursor !== undefined) headers.set("last-event-id", String(this.cursor));
        const url = caller.parts.baseUrl + path + search(query);
        const response = await caller.open(url, { method: "GET", headers }, limit.signal);
        if (response.ok && mediaType(response.headers) === "text/event-stream" && response.body !== null) {
            return response.body.getReader();
        }
        if (response.ok)
            throw new ProblemError({ type: "not-ours", remedy: "none", detail: "an answer that is no feed" });
        throw problemOf(response.status, response.headers, await content(response), false);
    }

    private async pauseOrThrow(error: ProblemError): Promise<void> {
        const { caller, options } = this.parts;
        if (error.is("unauthenticated") && typeof caller.token !== "string" && !this.renewed) {
            // Whoever gives tokens is asked again; a second refusal in a row stands.
            this.renewed = true;
            this.#refused = this.#token;
            return;
        }
        if (!error.again) throw error;
        const now = performance.now();
        this.wellAt ??= now;
        if (now - this.wellAt >= (options.patienceMs ?? PATIENCE_MS)) throw error;
        this.tries += 1;
        const doubled = Math.min(this.againMs * 2 ** Math.min(this.tries - 1, DOUBLINGS_MAX), AGAIN_MS_MAX);
        const pause = caller.parts.retrier.between(0.25, 1) * doubled;
        await sleep(Math.max(pause, error.retryAfterMs ?? 0), this.closing.signal);
    }

    /** Whether it was about the feed itself. Throws what ends it for good. */
    private control(event: ServerEvent): boolean {
        if (event.id !== undefined || !CONTROLS.has(event.name)) return false;
        const said: Control = parsed(event.data);
        if (said.after !== undefined && (this.cursor === undefined || event.name === "resync"))
            this.cursor = said.after;
        if (event.name === "hello" && typeof said.heartbeat_seconds === "number") {
            this.silenceMs = Math.max(SILENCES * said.heartbeat_seconds * 1000, SILENCE_MS_MIN);
        } else if (event.name === "goaway") {
            const wait = typeof said.retry_ms === "number" ? Math.min(said.retry_ms, AGAIN_MS_MAX) : this.againMs;
            this.openAt = performance.now() + wait;
        } else if (event.name === "expired") {
            if (typeof this.parts.caller.token === "string") {
                throw new ProblemError({
                    type: "unauthenticated",
                    remedy: "fix",
                    detail: "the token of the feed is over",
                });
            }
            this.#refused = this.#token;
        } else if (event.name === "erased") {
            throw new ProblemError({ type: "erased", remedy: "fix", detail: "the session is erased for ever" });
        }
        return event.name !== "resync";
    }

    private given(event: ServerEvent): E | undefined {
        if (event.id !== undefined && this.parts.ordered) {
            const seq = Number(event.id);
            if (!Number.isSafeInteger(seq) || (typeof this.cursor === "number" && seq <= this.cursor)) return undefined;
            this.cursor = seq;
        } else if (event.id !== undefined) {
            this.cursor = event.id;
        }
        return this.parts.read(event);
    }
}

const CLOSED = Symbol("closed");
const CONTROLS: ReadonlySet<string> = new Set(["hello", "goaway", "expired", "erased", "resync"]);

function parsed<T>(data: string): T {
    let value: unknown;
    try {
        value = JSON.parse(data);
    } catch {
        value = undefined;
    }
    if (!isObject(value))
        throw new ProblemError({ type: "not-ours", remedy: "none", detail: "an event that is no object" });
    return value as T;
}

/** The feed of a session, from after a seq; undefined = from now. */
export function sessionFeed(
    caller: Caller,
    session: string,
    path: string,
    after: number | undefined,
    options: FeedOptions,
): Feed<SessionEvent> {
    const read = (event: ServerEvent): SessionEvent | undefined => {
        if (event.name === "resync" && event.id === undefined) return { kind: "resync", resync: parsed(event.data) };
        if (event.name === "signal" && event.id === undefined) return { kind: "signal", signal: parsed(event.data) };
        if (event.id === undefined) return undefined;
        const entry: Entry = parsed(event.data);
        caller.parts.versions.saw(session, entry.version);
        return { kind: "entry", entry };
    };
    return new Feed({ caller, path, query: {}, after, ordered: true, read, options });
}

/** The feed of a tenant. Its connections overlap; of the newest events each is given once. */
export function tenantFeed(
    caller: Caller,
    types: string | undefined,
    after: string | undefined,
    options: FeedOptions,
): Feed<TenantFeedEvent> {
    const seen = new Set<string>();
    const read = (event: ServerEvent): TenantFeedEvent | undefined => {
        if (event.name === "resync") return { kind: "resync", resync: parsed(event.data) };
        if (event.id === undefined) return undefined;
        const given: TenantEvent = parsed(event.data);
        const again = seen.delete(given.id);
        seen.add(given.id);
        if (seen.size > SEEN_MAX) {
            for (const oldest of seen) {
                seen.delete(oldest);
                break;
            }
        }
        return again ? undefined : { kind: "event", event: given };
    };
    return new Feed({ caller, path: "/events", query: { types }, after, ordered: false, read, options });
}
