/** What is done about an error: its remedy says whether the same request may be sent again, and nothing else does. */
import { type ProblemError, type ProblemType, isProblem } from "./problems.js";

/** How often and for how long a call is tried. Times in milliseconds. */
export interface RetryPolicy {
    /** Tries of one call, the first included. */
    triesMax: number;
    /** Of a call with all its tries and pauses; what `Retry-After` goes beyond, is thrown at once. */
    deadlineMs: number;
    /** Of each try. */
    tryMs: number;
    /** The first pause, at most; doubled for each, up to `pauseMsMax`. */
    pauseMs: number;
    pauseMsMax: number;
    /** Of all calls of a client together, so many may be repeated in a row … */
    burst: number;
    /** … and then this share, so that a service that comes back is not met by everybody's repeats. */
    share: number;
}

export const RETRY: Readonly<RetryPolicy> = {
    triesMax: 8,
    deadlineMs: 30_000,
    tryMs: 10_000,
    pauseMs: 100,
    pauseMsMax: 5_000,
    burst: 100,
    share: 0.1,
};

const DOUBLINGS_MAX = 16;
/** Answers in themselves: whether to wait for the floor, and how long, is the caller's to say. */
const ANSWERS: ProblemType[] = ["floor-taken", "join-timeout"];

/** Tries calls as a policy says. random: of the jitter, 0–1. */
export class Retrier {
    private left: number;

    constructor(
        readonly policy: RetryPolicy,
        readonly random: () => number,
    ) {
        this.left = policy.burst;
    }

    /**
     * What `attempt` answers; it is told how many milliseconds it has. moreMs: that the service was asked to take, for
     * each try and for all of them.
     * Throws the last error; `outcome-unknown` where an earlier try may stand and the last one cannot tell.
     */
    async run<T>(attempt: (ms: number) => Promise<T>, signal?: AbortSignal, moreMs = 0): Promise<T> {
        const giveUpAt = performance.now() + this.policy.deadlineMs + moreMs;
        let unknown: ProblemError | undefined;
        this.left = Math.min(this.left + this.policy.share, this.policy.burst);
        for (let tries = 1; ; tries += 1) {
            try {
                return await attempt(Math.max(0, Math.min(this.policy.tryMs + moreMs, giveUpAt - performance.now())));
            } catch (error) {
                if (!isProblem(error)) throw error;
                if (error.is("outcome-unknown")) unknown = error;
                const pause = this.pause(error, tries);
                const over = tries >= this.policy.triesMax || performance.now() + pause >= giveUpAt;
                if (!error.again || error.is(...ANSWERS) || over || !this.spend()) throw told(error, unknown);
                await sleep(pause, signal);
            }
        }
    }

    /** Until the next try: at least what `Retry-After` says, and some more by chance, so that all who were told the same
     * do not come at the same moment. */
    pause(error: ProblemError, tries: number): number {
        const doubled = this.policy.pauseMs * 2 ** Math.min(tries - 1, DOUBLINGS_MAX);
        const backoff = this.between(0.5, 1) * Math.min(doubled, this.policy.pauseMsMax);
        return error.retryAfterMs === undefined
            ? backoff
            : Math.max(backoff, error.retryAfterMs * this.between(1, 1.25));
    }

    between(least: number, most: number): number {
        return least + (most - least) * this.random();
    }

    private spend(): boolean {
        if (this.left < 1) return false;
        this.left -= 1;
        return true;
    }
}

/** The error that says most: that nobody answers now does not undo that an earlier try of the same write may stand. */
function told(error: ProblemError, unknown: ProblemError | undefined): ProblemError {
    if (unknown === undefined) return error;
    unknown.mayStand = true;
    if (error.again || error.is("unauthenticated", "forbidden")) return unknown;
    error.mayStand = true;
    return error;
}

/** Waits. Throws the signal's reason as soon as it is aborted. idle: a program that has nothing else to do may end. */
export function sleep(ms: number, signal?: AbortSignal, idle = false): Promise<void> {
    return new Promise((resolve, reject) => {
        if (signal?.aborted === true) return reject(signal.reason as Error);
        const leave = () => {
            clearTimeout(timer);
            reject(signal?.reason as Error);
        };
        const timer = setTimeout(() => {
            signal?.removeEventListener("abort", leave);
            resolve();
        }, ms);
        if (idle) letEnd(timer);
        signal?.addEventListener("abort", leave, { once: true });
    });
}

/** In Node a timer keeps its program alive, which what merely keeps a lease alive should not. */
export function letEnd(timer: unknown): void {
    (timer as { unref?: () => void }).unref?.();
}
