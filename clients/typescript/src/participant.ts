/** Taking part in a session: joined, kept alive and left again, and the right to speak. */
import { type Token } from "./caller.js";
import { type CallOptions } from "./client.js";
import type * as t from "./generated/types.gen.js";
import { ProblemError, isProblem } from "./problems.js";
import { letEnd, sleep } from "./retry.js";
import { Session } from "./session.js";

export interface JoinOptions {
    /** Idempotency key of the join. */
    key?: string;
    signal?: AbortSignal;
}

export interface FloorOptions {
    leaseSeconds?: number;
    /** Where another has the floor: `reject` throws `floor-taken`, `queue` waits, `interrupt` takes it. */
    policy?: "reject" | "queue" | "interrupt";
    /** How long to wait in the queue. */
    waitMs?: number;
    takeover?: boolean;
    signal?: AbortSignal;
}

const LEASE_SECONDS = 60;
const TOKEN_SECONDS = 3_600;
/** A token is renewed when so much of its life is over. */
const TOKEN_SHARE = 0.75;
const BEATS_A_LEASE = 3;
const FLOOR_SECONDS = 30;
const RENEWALS_A_LEASE = 4;
const QUEUE_MS = 60_000;
/** Between two looks at the queue: from, growing to. */
const LOOK_MS = 100;
const LOOK_MS_MAX = 1_000;
/** Entries that `missed` looks through at most. */
const MISSED_MAX = 100_000;

/** Somebody who takes part, until `leave`, or until `gone` is aborted with the reason. */
export class Participant {
    private readonly over = new AbortController();
    private readonly ended = new AbortController();
    /** Not shown by whoever prints a participant. */
    readonly #joined: t.JoinAnswer;

    private constructor(
        /** The session, with this participant's own token. */
        readonly session: Session,
        private readonly home: Session,
        /** What the service last said of it. */
        public about: t.Participant,
        joined: t.JoinAnswer,
    ) {
        this.#joined = joined;
    }

    static async join(home: Session, body: t.JoinBody, options: JoinOptions): Promise<Participant> {
        const began = performance.now();
        const answer = await home.manager.call("POST /sessions/{id}/participants", {
            ...options,
            path: { id: home.id },
            body,
        });
        const { participant, token } = answer;
        const seconds = body.token_seconds ?? TOKEN_SECONDS;
        const session =
            typeof token === "string"
                ? new Session(home.manager.withToken(renewing(home, participant.id, token, seconds, began)), home.id)
                : home;
        const me = new Participant(session, home, participant, answer);
        const lease = body.lease_seconds === undefined ? LEASE_SECONDS : body.lease_seconds;
        if (lease !== null) void me.keep((lease * 1000) / BEATS_A_LEASE);
        return me;
    }

    get id(): string {
        return this.about.id;
    }

    /** The whole answer: what it may identify itself with, and how it gets into its room. */
    get joined(): t.JoinAnswer {
        return this.#joined;
    }

    /** Of the session when it joined. */
    get version(): number {
        return this.#joined.version;
    }

    /** Aborted when it takes part no longer, and nobody here has asked for it: it was taken out, the session has ended. */
    get gone(): AbortSignal {
        return this.over.signal;
    }

    /** The entries after a version, oldest first; left out: after what it has said to have seen. */
    async missed(since = this.about.last_seen_version ?? 0): Promise<t.Entry[]> {
        const found: t.Entry[] = [];
        for await (const entry of this.session.entries({ order: "desc" })) {
            if (entry.version <= since || found.length >= MISSED_MAX) break;
            found.push(entry);
        }
        return found.reverse();
    }

    /** Say what it has seen, so that `missed` begins there after a crash. */
    async saw(version: number): Promise<void> {
        const path = { id: this.session.id, pid: this.id };
        this.about = await this.session.manager.call("PATCH /sessions/{id}/participants/{pid}", {
            path,
            body: { last_seen_version: version },
        });
    }

    /** The right to speak, renewed until `release`. Throws `floor-taken`. */
    floor(options: FloorOptions = {}): Promise<Floor> {
        return Floor.claim(this.session, this.id, options);
    }

    /** One heartbeat, now. */
    async beat(): Promise<void> {
        const path = { id: this.session.id, pid: this.id };
        const options = { path, signal: this.ended.signal };
        try {
            this.about = await this.session.manager.call("POST /sessions/{id}/participants/{pid}/heartbeat", options);
        } catch (error) {
            if (isProblem(error) && !error.again && error.remedy !== "none") this.over.abort(error);
            throw error;
        }
    }

    /** Leave; heartbeats end. Its tokens are void. */
    async leave(): Promise<void> {
        this.ended.abort();
        if (this.gone.aborted) return;
        const path = { id: this.session.id, pid: this.id };
        try {
            await this.session.manager.call("DELETE /sessions/{id}/participants/{pid}", { path });
        } catch (error) {
            if (!isProblem(error, "unauthenticated", "forbidden")) throw error;
            await this.home.manager.call("DELETE /sessions/{id}/participants/{pid}", { path });
        }
    }

    async [Symbol.asyncDispose](): Promise<void> {
        await this.leave();
    }

    /** Heartbeats until it is over. A service that is away is asked again; the next heartbeat attaches it again. */
    private async keep(ms: number): Promise<void> {
        const { retrier } = this.session.manager.caller.parts;
        while (!this.ended.signal.aborted && !this.gone.aborted) {
            try {
                await sleep(ms * retrier.between(0.7, 1), this.ended.signal, true);
                await this.beat();
            } catch {
                // `beat` has noted what is for good; the rest is tried again.
            }
        }
    }
}

/** The token of a participant: renewed in time by itself, and by whoever joined it where it was refused. */
function renewing(home: Session, pid: string, first: string, seconds: number, began: number): Token {
    let token = first;
    let renewAt = began + TOKEN_SHARE * seconds * 1000;
    let running: Promise<void> | undefined;
    const renew = async (by: Session): Promise<void> => {
        const now = performance.now();
        const given = { path: { id: home.id, pid }, body: { token_seconds: seconds } };
        token = (await by.manager.call("POST /sessions/{id}/participants/{pid}/token", given)).token;
        renewAt = now + TOKEN_SHARE * seconds * 1000;
    };
    const one = async (by: Session): Promise<void> => {
        running ??= renew(by).finally(() => (running = undefined));
        await running;
    };
    return async (refused) => {
        if (refused !== undefined && refused === token) {
            await one(home);
        } else if (performance.now() >= renewAt) {
            // What is still good may be used; if it is refused in the end, it is made anew then.
            await one(new Session(home.manager.withToken(token), home.id)).catch(() => undefined);
        }
        return token;
    };
}

/** The floor, until `release`, or until `lost` is aborted: the service takes nothing with an older number. */
export class Floor {
    private readonly over = new AbortController();
    private readonly ended = new AbortController();
    private timer: ReturnType<typeof setTimeout> | undefined;

    private constructor(
        private readonly session: Session,
        private readonly pid: string,
        /** Sent with whatever is said. */
        readonly number: number,
        private readonly leaseMs: number,
        began: number,
    ) {
        this.until(began + leaseMs);
    }

    static async claim(session: Session, pid: string, options: FloorOptions): Promise<Floor> {
        const {
            leaseSeconds = FLOOR_SECONDS,
            policy = "reject",
            waitMs = QUEUE_MS,
            takeover = false,
            signal,
        } = options;
        const giveUpAt = performance.now() + waitMs;
        const body: t.FloorBody = { participant: pid, lease_seconds: leaseSeconds, policy, takeover };
        let queued = false;
        try {
            for (let look = LOOK_MS; ; look = Math.min(look * 2, LOOK_MS_MAX)) {
                const began = performance.now();
                const claimed = await claimFloor(session, body, signal);
                if (claimed.position === undefined) {
                    queued = false;
                    const floor = new Floor(session, pid, claimed.floor, leaseSeconds * 1000, began);
                    void floor.keep();
                    return floor;
                }
                queued = true;
                const left = giveUpAt - performance.now();
                if (left <= 0) {
                    throw new ProblemError({
                        type: "floor-taken",
                        remedy: "wait",
                        detail: `still in the queue after ${waitMs} ms`,
                    });
                }
                await sleep(Math.min(look, left), signal);
            }
        } finally {
            if (queued) await giveBack(session, pid);
        }
    }

    /** Aborted when somebody else may speak by now: it was taken, or its lease was not renewed in time. Told from a lease
     * counted from before it was asked for, so never too late. */
    get lost(): AbortSignal {
        return this.over.signal;
    }

    /** Append what the bot says. Throws `floor-lost`, before anything is sent where it is known here. */
    say(content: unknown, options: CallOptions & { id?: string } = {}): Promise<t.Receipt> {
        const { id, ...rest } = options;
        return this.append({ type: "message", role: "assistant", content, ...(id === undefined ? {} : { id }) }, rest);
    }

    /** Append entries; messages and function calls carry the floor's number. */
    async append(entries: t.EntryDraft | t.EntryDraft[], options: CallOptions = {}): Promise<t.Receipt> {
        if (this.lost.aborted) {
            throw new ProblemError({
                type: "floor-lost",
                remedy: "fix",
                detail: "known here",
                members: { number: this.number },
            });
        }
        const drafts = (Array.isArray(entries) ? entries : [entries]).map((entry) =>
            entry.type === "message" || entry.type === "function_call" ? { ...entry, floor: this.number } : entry,
        );
        try {
            return await this.session.append(drafts, options);
        } catch (error) {
            if (isProblem(error, "floor-lost")) this.over.abort(error);
            throw error;
        }
    }

    /** Give it back. Where that cannot be told to the service, its lease ends it. */
    async release(): Promise<void> {
        this.ended.abort();
        clearTimeout(this.timer);
        if (!this.lost.aborted) await giveBack(this.session, this.pid);
    }

    async [Symbol.asyncDispose](): Promise<void> {
        await this.release();
    }

    private until(instant: number): void {
        clearTimeout(this.timer);
        const late = new ProblemError({
            type: "floor-lost",
            remedy: "fix",
            detail: "its lease was not renewed in time",
        });
        this.timer = setTimeout(() => this.over.abort(late), Math.max(0, instant - performance.now()));
        letEnd(this.timer);
    }

    private async keep(): Promise<void> {
        const stop = this.ended.signal;
        while (!stop.aborted && !this.lost.aborted) {
            try {
                await sleep(this.leaseMs / RENEWALS_A_LEASE, stop, true);
                if (!this.lost.aborted) await this.renew();
            } catch (error) {
                if (stop.aborted || !isProblem(error)) continue;
                if (!error.again || error.is("floor-taken")) this.over.abort(error);
            }
        }
    }

    private async renew(): Promise<void> {
        const began = performance.now();
        const body: t.FloorBody = { participant: this.pid, lease_seconds: this.leaseMs / 1000, policy: "reject" };
        const claimed = await claimFloor(this.session, body, this.ended.signal);
        if (claimed.floor === this.number) return this.until(began + this.leaseMs);
        // The lease was over and it is ours anew, under another number: what was said between is not known here.
        this.over.abort(new ProblemError({ type: "floor-lost", remedy: "fix", members: { number: claimed.floor } }));
        await giveBack(this.session, this.pid);
    }
}

async function claimFloor(
    session: Session,
    body: t.FloorBody,
    signal: AbortSignal | undefined,
): Promise<t.FloorAnswer> {
    const given = { path: { id: session.id }, body, ...(signal === undefined ? {} : { signal }) };
    return await session.manager.call("POST /sessions/{id}/floor", given);
}

async function giveBack(session: Session, pid: string): Promise<void> {
    const given = { path: { id: session.id }, query: { participant: pid } };
    await session.manager.call("DELETE /sessions/{id}/floor", given).catch(() => undefined);
}
