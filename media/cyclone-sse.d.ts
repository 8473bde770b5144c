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

/** Events of these channels were lost: load their state anew. */
export interface Gap {
    readonly channels: string[];
}

/**
 * `waiting`: the connection was lost or not to be had, and will be tried again.
 * `stopped`: for good: it was refused (401, 403), the server said so (204), or it was closed.
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
}

export interface Stream {
    readonly state: State['state'] | '';
    /** The id up to which all has come: give it to the next page as `lastEventId`. */
    readonly lastEventId: string;
    readonly channels: string[];
    /** Calls `handle` with what happens, and gives a function that ends that. `*` is every event of any type. */
    on(type: 'state', handle: (state: State) => void): () => void;
    on(type: 'gap', handle: (gap: Gap) => void): () => void;
    on<T = any>(type: string, handle: (event: StreamEvent<T>) => void): () => void;
    /** Hear these channels too, from now on. */
    add(channels: string | Iterable<string>): void;
    remove(channels: string | Iterable<string>): void;
    close(): void;
}

/** Opens a stream of events. Never throws for what the network or the server does: see `on('state')`. */
export function connect(url: string | URL, options?: Options): Stream;

export as namespace cycloneSSE;
