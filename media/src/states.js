/* The states at the start of an answer, before the position after which the stream goes on. */
import {isAfter} from './ids.js';
import {PRESENCE, makeParser, toEvent} from './parser.js';
import {readText} from './request.js';

// Returns the events before the position `start`; the rest is not read. onBytes: called with each piece. quiet: the silence
// after which a stream is not read any longer, null for a poll. Fails if a stream ends before the position.
export async function readStates(response, start, names, onBytes, quiet) {
    const states = [];
    let isComplete = false;
    const feed = makeParser((block) => {
        isComplete = isComplete || block.own && (!block.data || isAfter(block.id, start));
        if (block.data && !isComplete && block.type !== PRESENCE) {
            states.push(toEvent(block, names));
        }
    }, () => {});
    const reading = readText(response, (text) => {
        onBytes();
        quiet?.postpone();
        feed(text);
        return isComplete;
    }).then(() => {
        if (quiet && !isComplete) {
            throw new Error('ended before all states');
        }
    });
    await Promise.race([reading, quiet?.over || reading]);
    return states;
}
