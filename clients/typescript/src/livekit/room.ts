/** What of `livekit-client`'s `Room` is used: its own class fits, and so does whatever behaves as it does. */
import type { AudioSettings } from "./config.js";

/** `livekit-client`'s `ConnectionState`, by its values. */
export type ConnectionState = "disconnected" | "connecting" | "connected" | "reconnecting" | "signalReconnecting";

/** The events of a room that are listened to, by the values of its `RoomEvent`. */
export type RoomEventName =
    | "connected"
    | "reconnecting"
    | "signalReconnecting"
    | "reconnected"
    | "disconnected"
    | "connectionStateChanged"
    | "moved"
    | "roomMetadataChanged"
    | "trackMuted"
    | "trackUnmuted"
    | "localTrackPublished"
    | "localTrackUnpublished"
    | "dataReceived";

// Its own signature differs by event, and what is listened to here reads no argument but through `unknown`.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Listener = (...args: any[]) => void;

/** A track before it is published. */
export interface FreshTrack {
    mute(): Promise<unknown>;
}

/**
 * The local participant. `isMicrophoneEnabled`: there is a microphone track, and it is not muted. The other three
 * publish a track that is muted from the beginning, so that nothing is heard of it, not even at its start.
 */
export interface LocalMicrophone {
    readonly isMicrophoneEnabled: boolean;
    setMicrophoneEnabled(enabled: boolean, options?: AudioSettings): Promise<unknown>;
    getTrackPublication(source: Source): unknown;
    createTracks(options: { audio: AudioSettings }): Promise<FreshTrack[]>;
    publishTrack(track: Source): Promise<unknown>;
}

// Enumerations and classes of `livekit-client`, which are not imported here.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Source = any;

/** A room, connected or not. `name` is empty until it was connected once; `metadata` is what the service wrote. */
export interface RoomLike {
    readonly state: `${ConnectionState}`;
    readonly name: string;
    readonly metadata: string | undefined;
    readonly localParticipant: LocalMicrophone;
    on(event: RoomEventName, listener: Listener): unknown;
    off(event: RoomEventName, listener: Listener): unknown;
}

/** A room that can be joined and left here. */
export interface JoinableRoom extends RoomLike {
    connect(url: string, token: string): Promise<void>;
    disconnect(): Promise<void>;
}
