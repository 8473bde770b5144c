/* The states at the start of an answer, before the position after which the stream goes on. */
import {isAfter} from './ids.js';
import {PRESENCE, makeParser, toEvent} from './parser.js';
import {readText} from './request.js';

// Returns the events before the position `start`; the rest is not read. onBytes: called with each piece. isPoll: the
// answer may end without the position. Fails if a stream does.
export async function readStates(response, start, names, onBytes, isPoll) {
    const states = [];
    let isComplete = false;
    const feed = makeParser((block) => {
        isComplete = isComplete || block.own && (!block.data || isAfter(block.id, start));
        if (block.data && !isComplete && block.type !== PRESENCE) {
            states.push(toEvent(block, names));
        }
    }, () => {});
    await readText(response, (text) => {
        onBytes();
        feed(text);
        return isComplete;
    });
    if (!isComplete && !isPoll) {
        throw new Error('ended before all states');
    }
    return states;
}
