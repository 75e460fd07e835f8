/** The local microphone, brought to what is wanted, one change at a time; the last word counts. */
import type { AudioSettings } from "./config.js";
import type { LocalMicrophone } from "./room.js";

/** `none`: no sound is ever sent, and nobody is asked for a device. `muted`: there is a track, and nothing is heard. */
export type Sound = "none" | "muted" | "open";

/** `Track.Source.Microphone`. */
const MICROPHONE = "microphone";

export class Microphone {
    private wanted: { sound: Sound; audio: AudioSettings } | undefined;
    private running = false;
    private closed = false;

    /** failed: told when it could not be brought to what was wanted. */
    constructor(
        private readonly participant: LocalMicrophone,
        private readonly failed: (sound: Sound, error: unknown) => void,
    ) {}

    /** It is being opened or closed now. */
    get busy(): boolean {
        return this.running;
    }

    want(sound: Sound, audio: AudioSettings): void {
        this.wanted = { sound, audio };
        if (!this.running) void this.run();
    }

    /** What is being done is done to its end, and nothing after it. */
    close(): void {
        this.closed = true;
    }

    private async run(): Promise<void> {
        this.running = true;
        while (this.wanted !== undefined && !this.closed) {
            const { sound, audio } = this.wanted;
            this.wanted = undefined;
            try {
                await this.bring(sound, audio);
            } catch (error) {
                if (!this.closed) this.failed(sound, error);
            }
        }
        this.running = false;
    }

    private async bring(sound: Sound, audio: AudioSettings): Promise<void> {
        const { participant } = this;
        const open = sound === "open";
        if (open !== participant.isMicrophoneEnabled) {
            // A track that exists is muted or unmuted; the options are those of one that is made.
            await participant.setMicrophoneEnabled(open, open ? audio : undefined);
        } else if (sound === "muted" && participant.getTrackPublication(MICROPHONE) === undefined) {
            for (const track of await participant.createTracks({ audio })) {
                await track.mute();
                await participant.publishTrack(track);
            }
        }
    }
}
