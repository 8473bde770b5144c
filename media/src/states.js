/* The states at the start of an answer, before the position after which the stream goes on. */
import {isAfter} from './ids.js';
import {PRESENCE, makeParser, toEvent} from './parser.js';
import {readText} from './request.js';

// Returns the events before the position `start`; the rest is not read. until: settles when the answer is not read any
// longer, unless it ends.
export async function readStates(response, start, names, until) {
    const states = [];
    let isComplete = false;
    const feed = makeParser((block) => {
        isComplete = isComplete || block.own && (!block.data || isAfter(block.id, start));
        if (block.data && !isComplete && block.type !== PRESENCE) {
            states.push(toEvent(block, names));
        }
    }, () => {});
    const reading = readText(response, (text) => {
        feed(text);
        return isComplete;
    });
    await Promise.race([reading, until || reading]);
    return states;
}
