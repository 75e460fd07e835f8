/** Errors: what the service answers as a problem document, and what kept an answer from coming. */
import type { ProblemName } from "./generated/operations.gen.js";
import type { Problem } from "./generated/types.gen.js";

export type { ProblemName };
/** What a program does about an error: change the request, read and decide again, send the same later, send the same
 * again under its key, or nothing. Nothing else decides whether a call is repeated. */
export type Remedy = Problem["remedy"];
/** The service's own names, and three of this client: nobody answers, not in time, or somebody else answers. */
export type ProblemType = ProblemName | "method-not-allowed" | "unreachable" | "timed-out" | "not-ours";

const RETRY_AFTER_SECONDS_MAX = 3600;
const DETAIL_CHARACTERS_MAX = 1000;
const REMEDIES: ReadonlySet<unknown> = new Set<Remedy>(["fix", "reload", "wait", "repeat", "none"]);

/** What an error knows beside its type. */
export interface ProblemFacts {
    type: ProblemType | (string & {});
    remedy: Remedy;
    detail?: string | undefined;
    status?: number;
    members?: Partial<Problem>;
    requestId?: string | undefined;
    retryAfterMs?: number | undefined;
    cause?: unknown;
}

/**
 * A call that failed. `type` never changes its meaning; `members` are those of the problem document (`version`,
 * `allowed`, `errors` …); `detail` is for people. Holds no token and nothing that was said.
 *
 * `status` is 0 where no answer came. `key` is the idempotency key of a write: with it, the same call again gets the
 * one true answer. `mayStand`: an earlier try of this write got no answer, so that it may have been done all the same.
 */
export class ProblemError extends Error {
    override readonly name = "ProblemError";
    readonly type: ProblemFacts["type"];
    readonly remedy: Remedy;
    readonly status: number;
    readonly detail: string;
    readonly members: Partial<Problem>;
    readonly requestId: string | undefined;
    readonly retryAfterMs: number | undefined;
    key: string | undefined;
    mayStand = false;

    constructor(facts: ProblemFacts) {
        const detail = (facts.detail ?? "").slice(0, DETAIL_CHARACTERS_MAX);
        super(detail === "" ? facts.type : `${facts.type}: ${detail}`, { cause: facts.cause });
        this.type = facts.type;
        this.remedy = facts.remedy;
        this.status = facts.status ?? 0;
        this.detail = detail;
        this.members = facts.members ?? {};
        this.requestId = facts.requestId;
        this.retryAfterMs = facts.retryAfterMs;
    }

    /** Whether it is one of these. */
    is(...types: ProblemType[]): boolean {
        return (types as string[]).includes(this.type);
    }

    /** Whether the same request may be sent again. */
    get again(): boolean {
        return this.remedy === "wait" || this.remedy === "repeat";
    }
}

/** Whether an error is a problem, and one of these types where any is named. */
export function isProblem(error: unknown, ...types: ProblemType[]): error is ProblemError {
    return error instanceof ProblemError && (types.length === 0 || error.is(...types));
}

/** What a proxy in front of the service answers in its own words. */
const BY_STATUS: Readonly<Record<number, readonly [ProblemType, Remedy]>> = {
    401: ["unauthenticated", "fix"],
    403: ["forbidden", "fix"],
    404: ["not-found", "fix"],
    410: ["erased", "fix"],
    413: ["too-large", "fix"],
    429: ["rate-limited", "wait"],
    502: ["unreachable", "wait"],
    503: ["unreachable", "wait"],
    504: ["timed-out", "wait"],
};

/** The error that an answer stands for. write: a proxy that gave up on a write does not know what became of it. */
export function problemOf(status: number, headers: Headers, body: unknown, write: boolean): ProblemError {
    const requestId = headers.get("x-request-id")?.slice(0, 128);
    const retryAfterMs = retryAfter(headers);
    const ours = mediaType(headers) === "application/problem+json" && isObject(body);
    const [type, remedy] = BY_STATUS[status] ?? (["not-ours", "none"] as const);
    if (!ours || typeof body["type"] !== "string" || !REMEDIES.has(body["remedy"])) {
        const lost = write && (status === 502 || status === 504);
        const [named, means] = lost ? (["outcome-unknown", "repeat"] as const) : ([type, remedy] as const);
        return new ProblemError({
            type: named,
            remedy: means,
            detail: `an answer with status ${status}`,
            status,
            requestId,
            retryAfterMs,
        });
    }
    const members = body as Partial<Problem>;
    return new ProblemError({
        type: body["type"],
        remedy: members.remedy ?? "none",
        detail: String(members.detail ?? members.title ?? ""),
        status,
        members,
        requestId: members.request_id ?? requestId,
        retryAfterMs,
    });
}

/** The media type without its parameters, in lower case. */
export function mediaType(headers: Headers): string {
    return (headers.get("content-type") ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

function retryAfter(headers: Headers): number | undefined {
    const said = headers.get("retry-after") ?? "";
    return /^\d{1,9}$/.test(said) ? Math.min(Number(said), RETRY_AFTER_SECONDS_MAX) * 1000 : undefined;
}

export function isObject(value: unknown): value is Record<string, unknown> {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}
