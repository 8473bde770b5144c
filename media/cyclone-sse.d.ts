/* Types of cyclone-sse.js; of window.cycloneSSE too, which cyclone-sse.global.js sets. */

/** One event. */
export interface StreamEvent<T = any> {
    /** Its type, `message` if the publisher gave none. */
    readonly type: string;
    /** Its text. */
    readonly data: string;
    /** What its text is as JSON, or undefined. */
    readonly json: T | undefined;
    /** Its id, or that of the last one that had any. */
    readonly lastEventId: string;
    /** Those of the stream's channels that it was published to; empty if the server does not say. */
    readonly channels: string[];
}

/** Events of these channels were lost: load their state again. */
export interface Gap {
    readonly channels: string[];
}

/** The members of a channel, after each change. */
export interface Presence<T = any> {
    readonly channel: string;
    /** All members: the user, and what the server shows of them. Empty if there are more than the server names. */
    readonly members: Readonly<Record<string, T>>;
    /** Those who came with this change; none with the first list. */
    readonly joined: Readonly<Record<string, T>>;
    /** Those who left with this change. */
    readonly left: readonly string[];
    /** The number of members. */
    readonly count: number;
    /** The number of streams without a user. */
    readonly anonymous: number;
}

/**
 * `waiting`: the connection was lost or could not be made, and will be tried again.
 * `stopped`: for good: it was refused (400, 401, 403, 404, 410, 414), the server asks for no more (204), or it was closed.
 */
export interface State {
    readonly state: 'connecting' | 'open' | 'waiting' | 'stopped';
    /** Why it waits or has stopped, in words: the server's own if it gave any. */
    readonly reason?: string;
    /** The status of the answer, if there was one. */
    readonly status?: number;
}

export interface Options {
    /** The channels to hear; none until `add`. */
    channels?: string | Iterable<string>;
    /**
     * A token for the server (JWT), or a function that gives one: it is asked at each connection, and again when the
     * token is refused or has expired.
     */
    token?: string | (() => string | null | undefined | Promise<string | null | undefined>);
    /**
     * All tabs of this browser with the same address and user share one connection. The user is known by the token;
     * if a cookie tells it, give a name of your own for each user here.
     */
    shared?: boolean | string;
    /** Begin after this event, or with all that the server still has; otherwise with what comes from now on. */
    lastEventId?: string | 'earliest';
    /** As for fetch: 'include' sends cookies to another origin. */
    credentials?: RequestCredentials;
    /** The server's --ping-interval in ms: silence of twice that ends a connection. 30000 */
    ping?: number;
    /** Also hear the state of each channel that starts: the last event that was published with `keep`. */
    state?: boolean;
    /**
     * Long polls in place of a stream: `auto` (the default) after two streams that stayed without a byte, as behind a
     * proxy that holds them back; `true` always, `false` never.
     */
    poll?: boolean | 'auto';
}

export interface Stream {
    readonly state: State['state'] | '';
    /** The id up to which all has come: give it to the next page as `lastEventId`. */
    readonly lastEventId: string;
    readonly channels: string[];
    /** The id of this stream: an event that is published with `except` and this id does not reach it. */
    readonly client: string;
    /** Calls `handle` with what happens, and gives a function that ends that. `*` is every event of any type. */
    on(type: 'state', handle: (state: State) => void): () => void;
    on(type: 'gap', handle: (gap: Gap) => void): () => void;
    on<T = any>(type: 'presence', handle: (room: Presence<T>) => void): () => void;
    on<T = any>(type: string, handle: (event: StreamEvent<T>) => void): () => void;
    /** Hear these channels too, from now on. */
    add(channels: string | Iterable<string>): void;
    remove(channels: string | Iterable<string>): void;
    close(): void;
}

/**
 * Opens a stream of events. Throws a TypeError for a relative URL outside of a page; never for what the network or the
 * server does: see `on('state')`.
 */
export function connect(url: string | URL, options?: Options): Stream;

export as namespace cycloneSSE;
