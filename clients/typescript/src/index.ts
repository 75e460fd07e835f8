/** The public names of the client. `types` are those of the contract. */
export type { Answer, Query, Token } from "./caller.js";
export {
    type Arguments,
    type CallOptions,
    type Operation,
    type Options,
    type Result,
    SessionManager,
} from "./client.js";
export {
    Feed,
    type FeedOptions,
    type Resync,
    type SessionEvent,
    type Signal,
    type TenantEvent,
    type TenantFeedEvent,
} from "./feed.js";
export type { Operations } from "./generated/operations.gen.js";
export type * as types from "./generated/types.gen.js";
export { Floor, type FloorOptions, type JoinOptions, Participant } from "./participant.js";
export { ProblemError, type ProblemName, type ProblemType, type Remedy, isProblem } from "./problems.js";
export { RETRY, type RetryPolicy } from "./retry.js";
export { type PatchStep, Session } from "./session.js";
