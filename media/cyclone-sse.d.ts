/* Types of cyclone-sse.js, and of the global cycloneSSE, which cyclone-sse.global.js sets. */

/** One event. */
export interface StreamEvent<T = any> {
    /** Its type: `message` unless the publisher sets another. */
    readonly type: string;
    /** Its text. */
    readonly data: string;
    /** Its text, parsed as JSON; undefined if it is not JSON. */
    readonly json: T | undefined;
    /** Its id, or that of the last event that had one. */
    readonly lastEventId: string;
    /** The channels of this stream to which it was published; empty if the server does not name them. */
    readonly channels: string[];
}

/** Events of these channels were missed: load their state again. */
export interface Gap {
    readonly channels: string[];
}

/** The members of a channel, after each change. */
export interface Presence<T = any> {
    readonly channel: string;
    /** The `info` of each member, by user. Empty if there are more members than the server lists. */
    readonly members: Readonly<Record<string, T>>;
    /** The members who joined with this change; none with the first list. */
    readonly joined: Readonly<Record<string, T>>;
    /** The users who left with this change. */
    readonly left: readonly string[];
    /** The number of members. */
    readonly count: number;
    /** The number of streams without a user. */
    readonly anonymous: number;
}

/**
 * `waiting`: the connection was lost or could not be opened; the stream will connect again.
 * `stopped`: final: the stream was refused (400, 401, 403, 404, 410, 414), ended by the server (204), or closed.
 */
export interface State {
    readonly state: 'connecting' | 'open' | 'waiting' | 'stopped';
    /** Why the stream waits or has stopped: the server's reason, if there is one. */
    readonly reason?: string;
    /** The status of the answer, if there was one. */
    readonly status?: number;
}

export interface Options {
    /** The channels to subscribe to; without this, none until `add` is called. */
    channels?: string | Iterable<string> | undefined;
    /**
     * A token for the server (JWT), or a function that returns one. The function is called at each connection, and when
     * the token is refused or has expired.
     */
    token?: string | (() => string | null | undefined | Promise<string | null | undefined>) | undefined;
    /**
     * `true`: all tabs of this browser with the same address and user share one connection. The token identifies the
     * user; if a cookie does, pass a text that is different for each user instead, such as 'user 42'.
     */
    shared?: boolean | string | undefined;
    /** Start after the event with this id, or with all events that the server keeps; by default, with new events. */
    lastEventId?: string | 'earliest' | undefined;
    /** As for fetch: 'include' sends cookies to another origin. */
    credentials?: 'include' | 'omit' | 'same-origin' | undefined;
    /** The server's --ping-interval in ms (default 30000). A connection that is silent for twice this time is ended. */
    ping?: number | undefined;
    /** First receive the state of each channel: the last event that was published with `keep`. */
    state?: boolean | undefined;
    /**
     * Long polls instead of a stream: `auto` (the default) after two streams on which no byte arrived, as behind a
     * proxy that buffers; `true` always, `false` never.
     */
    poll?: boolean | 'auto' | undefined;
}

export interface Stream {
    readonly state: State['state'] | '';
    /** The id up to which all events have arrived: pass it to the next page as `lastEventId`. */
    readonly lastEventId: string;
    readonly channels: string[];
    /** The id of this stream. An event that is published with this id as `except` is not sent to it. */
    readonly client: string;
    /** Calls `handle` for each event of this type, or of every type with `*`; returns a function that removes it. */
    on(type: 'state', handle: (state: State) => void): () => void;
    on(type: 'gap', handle: (gap: Gap) => void): () => void;
    on<T = any>(type: 'presence', handle: (room: Presence<T>) => void): () => void;
    on<T = any>(type: string, handle: (event: StreamEvent<T>) => void): () => void;
    /** Subscribes to these channels too, from now on. */
    add(channels: string | Iterable<string>): void;
    remove(channels: string | Iterable<string>): void;
    close(): void;
}

/**
 * Opens a stream of events. Throws a TypeError for a relative URL outside of a page; failures of the network or the
 * server are reported by `on('state')`.
 */
export function connect(url: string | URL, options?: Options): Stream;

export as namespace cycloneSSE;
