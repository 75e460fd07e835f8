/** Hooks for React ≥ 18 around `SessionSync`. `docs/how-to/livekit.md` shows them. */
export { type AgentContextValue, AgentProvider, type AgentProviderProps, useAgent } from "./context.js";
export { type LiveKit, useLiveKit } from "./useLiveKit.js";
export { type Voice, useVoice } from "./useVoice.js";
