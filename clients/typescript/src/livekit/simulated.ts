/** A room without a server, for tests and demonstrations: it does what `livekit-client`'s does, in the same order. */
import type { AudioSettings } from "./config.js";
import type { ConnectionState, FreshTrack, JoinableRoom, LocalMicrophone, RoomEventName } from "./room.js";

type Listener = (...args: unknown[]) => void;

/** `DisconnectReason.CLIENT_INITIATED`. */
const CLIENT_INITIATED = 1;

class SimulatedMicrophone implements LocalMicrophone {
    /** Published and not muted. */
    isMicrophoneEnabled = false;
    /** There is a track. */
    published = false;
    /** What the next device is refused with. */
    refuses: Error | undefined;
    /** Those of the track that was made last. */
    options: AudioSettings | undefined;

    constructor(private readonly emit: (event: RoomEventName) => void) {}

    async setMicrophoneEnabled(enabled: boolean, options?: AudioSettings): Promise<void> {
        // Asking for a device takes at least a turn of the loop, and so does the server's answer to a published track.
        await Promise.resolve();
        if (enabled === this.isMicrophoneEnabled) return;
        if (enabled && this.refuses !== undefined) throw this.refuses;
        this.isMicrophoneEnabled = enabled;
        if (this.published) return this.emit(enabled ? "trackUnmuted" : "trackMuted");
        this.options = options;
        this.publish();
    }

    getTrackPublication(): object | undefined {
        return this.published ? {} : undefined;
    }

    async createTracks({ audio }: { audio: AudioSettings }): Promise<FreshTrack[]> {
        await Promise.resolve();
        if (this.refuses !== undefined) throw this.refuses;
        this.options = audio;
        let muted = false;
        const mute = async (): Promise<void> => void (muted = true);
        return [{ mute, isMuted: () => muted } as FreshTrack];
    }

    async publishTrack(track: { isMuted(): boolean }): Promise<void> {
        await Promise.resolve();
        this.isMicrophoneEnabled = !track.isMuted();
        this.publish();
    }

    /** Its tracks are gone, as after a disconnect. */
    clear(): void {
        this.published = this.isMicrophoneEnabled = false;
    }

    private publish(): void {
        this.published = true;
        this.emit("localTrackPublished");
    }
}

/** Driven by its own methods: `connect`, `interrupt`, `recover`, `drop`, `setMetadata`, `move`. */
export class SimulatedRoom implements JoinableRoom {
    state: `${ConnectionState}` = "disconnected";
    name = "";
    metadata: string | undefined;
    readonly localParticipant: SimulatedMicrophone;
    private readonly listeners = new Map<RoomEventName, Set<Listener>>();
    private held: RoomEventName[] = [];

    /** server: what it says of the room. */
    constructor(private server: { name: string; metadata?: string } = { name: "simulated" }) {
        this.localParticipant = new SimulatedMicrophone((event) => this.emit(event));
    }

    on(event: RoomEventName, listener: Listener): this {
        const known = this.listeners.get(event) ?? new Set();
        this.listeners.set(event, known.add(listener));
        return this;
    }

    off(event: RoomEventName, listener: Listener): this {
        this.listeners.get(event)?.delete(listener);
        return this;
    }

    /** Listeners that are left. */
    get listening(): number {
        return [...this.listeners.values()].reduce((count, some) => count + some.size, 0);
    }

    async connect(_url = "", _token = ""): Promise<void> {
        if (this.state === "connected") return;
        this.turn("connecting");
        await Promise.resolve();
        this.name = this.server.name;
        this.metadata = this.server.metadata;
        this.turn("connected");
        this.emit("connected");
    }

    async disconnect(): Promise<void> {
        await Promise.resolve();
        this.drop(CLIENT_INITIATED);
    }

    /** The signal connection is lost, or all of it. */
    interrupt(kind: "signalReconnecting" | "reconnecting" = "reconnecting"): void {
        if (this.state === kind || this.state === "disconnected") return;
        this.turn(kind);
        this.emit(kind);
    }

    /** It is back, with its tracks as they were; what was said meanwhile comes after. */
    recover(): void {
        if (this.state === "connected" || this.state === "disconnected") return;
        this.turn("connected");
        this.emit("reconnected");
        const held = this.held;
        this.held = [];
        for (const event of held) this.emit(event, this.metadata);
    }

    /** It is over: by the server, by the network, by a call of `disconnect`. */
    drop(reason = 0): void {
        if (this.state === "disconnected") return;
        this.localParticipant.clear();
        this.held = [];
        this.turn("disconnected");
        this.emit("disconnected", reason);
    }

    /** The service writes the room's metadata. */
    setMetadata(metadata: string): void {
        if (metadata === this.server.metadata) return;
        this.server = { ...this.server, metadata };
        if (this.state === "disconnected" || this.state === "connecting") return;
        this.metadata = metadata;
        if (this.state === "connected") this.emit("roomMetadataChanged", metadata);
        else this.held.push("roomMetadataChanged");
    }

    /** A data packet comes in: of the service itself, or of a participant. */
    receive(payload: Uint8Array, topic: string, participant?: object): void {
        if (this.state === "connected") this.emit("dataReceived", payload, participant, 0, topic);
    }

    /** The service moves the participant into another room. */
    move(name: string): void {
        this.server = { ...this.server, name };
        this.name = name;
        this.emit("moved", name);
    }

    private turn(state: `${ConnectionState}`): void {
        this.state = state;
        this.emit("connectionStateChanged", state);
    }

    private emit(event: RoomEventName, ...args: unknown[]): void {
        for (const listener of [...(this.listeners.get(event) ?? [])]) listener(...args);
    }
}
