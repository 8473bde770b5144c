/* The timers of the module, all of which are limited by `delay`. */

const SHORTEST = 500;        // ms between two attempts
const LONGEST = 60 * 60 * 1000;     // ms

// Bounds a time in ms. Without this, `retry: 0` would connect hundreds of times a second, and so would a time of more
// than 24.8 days, which overflows the browser's timers to none.
export function delay(ms, least = SHORTEST) {
    return Math.min(Math.max(ms, least) || least, LONGEST);
}

export const onAbort = (signal, react) => signal.addEventListener('abort', react, {once: true});

// Waits; returns early if the signal is aborted. Each pause replaces the one before: without this, the pauses between
// thousands of empty polls would each leave a listener on their one signal.
export function pause(ms, signal) {
    return new Promise((resolve) => {
        const timer = setTimeout(resolve, delay(ms, 0));
        signal.onabort = () => { clearTimeout(timer); resolve(); };
    });
}

// Settles like the promise of the function, but fails as soon as the signal is aborted.
export function raced(signal, ask) {
    return new Promise((resolve, reject) => {
        onAbort(signal, () => reject(signal.reason));
        Promise.resolve().then(ask).then(resolve, reject);
    });
}

// Returns expect(ms, reason), which aborts the controller with this reason unless it is called again in time.
export function makeWatchdog(controller) {
    let timer = 0;
    onAbort(controller.signal, () => clearTimeout(timer));
    return (ms, reason) => {
        clearTimeout(timer);
        const fault = Object.assign(new Error(reason), {isSilence: true});
        timer = setTimeout(() => controller.abort(fault), delay(ms));
    };
}
