/*
 * The tabs of a browser that share connections. One of them leads: it holds a Web Lock, connects, and passes on events
 * over a BroadcastChannel. When the leader closes, crashes or freezes, another tab leads.
 */
import {onAbort, pause} from './timers.js';

const TICK = 500;       // ms between two looks at whether the leader is there
const ASK = 2;          // ticks without a message from it before it is asked
const STEAL = 4;        // ticks after which it counts as frozen, and its lock is taken from it

// Requests a lock, calls `onHeld` when it is granted, and holds it until the signal is aborted.
function holdLock(name, how, signal, onHeld) {
    return navigator.locks.request(name, how, () => signal.aborted || new Promise((resolve) => {
        onAbort(signal, resolve);
        onHeld();
    }));
}

// Joins the tabs with this name, until `signal` is aborted. onLead() and onResign(): this tab is the leader, or no
// longer; onMessage(message): from another tab. Fails if the browser does not allow the page to share anything.
export async function joinGroup(name, me, {signal, onLead, onResign, onMessage}) {
    let candidacy = new AbortController(), leads = false;
    let silent = 0;     // ticks since the last message of the leader, less than 0 while this tab leaves the lead to others
    await new Promise((resolve, reject) => { holdLock(name + me, {}, signal, resolve).then(reject, reject); });
    const channel = new BroadcastChannel(name);

    function lead() {
        leads = true;
        onLead();
    }

    // Waits for the lock, or steals it from a leader that is silent.
    async function stand(steal, absence = 0) {
        candidacy.abort();
        const mine = candidacy = new AbortController();
        silent = -absence / TICK;
        if (absence) {
            await pause(absence, mine.signal);
        }
        try {
            await holdLock(name, steal ? {steal} : {signal: mine.signal}, mine.signal, lead);
        } catch { /* another tab took it, or this one no longer waits for it */ }
        if (!mine.signal.aborted) {
            handOver(TICK);     // a browser that refuses at once would be asked without end, and the page would hang
        }
    }

    // Leaves the lead to another tab, and requests it again after this time in ms.
    function handOver(ms) {
        leads = false;
        onResign();
        stand(false, ms);
    }

    function look() {
        silent = leads ? 0 : silent + 1;
        if (silent >= STEAL) {
            stand(true);
        } else if (silent >= ASK) {
            channel.postMessage({ask: true});
        }
    }

    channel.onmessage = ({data}) => onMessage(data);
    const ticking = setInterval(look, TICK);
    onAbort(signal, () => {
        clearInterval(ticking);
        candidacy.abort();
        channel.close();
    });
    return {
        // Requests to lead from now on.
        stand() { stand(); },
        handOver,
        post(message) { channel.postMessage(message); },
        // Notices when another tab has gone, by the lock that the tab holds.
        onceGone(tab, react) { navigator.locks.request(name + tab, {signal}, react).catch(() => {}); },
        heard() { silent = Math.min(silent, 0); }
    };
}
