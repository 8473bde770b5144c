/*
 * The format of event streams (WHATWG HTML 9.2.6): pieces of text in, blocks out.
 *
 * A block is {type, data, channels, except, id, own}: own is true if the block has an id of its own. The data ends with
 * a line break, and is empty if the block is not an event.
 */

// The types of the server's own events.
export const GAP = 'sse-gap', EXPIRED = 'sse-expired', PRESENCE = 'sse-presence';

const newBlock = () => ({type: '', data: '', channels: [], except: '', own: false});

// Returns a function that returns the blocks which a piece of text completes.
export function makeParser(onRetry) {
    let rest = '', endedWithCR = false, id = '', block = newBlock();

    function readField(line) {
        const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (field === 'data') {
            block.data += value + '\n';
        } else if (field === 'event') {
            block.type = value;
        } else if (field === 'channel') {
            block.channels.push(value);
        } else if (field === 'except') {
            block.except = value;
        } else if (field === 'id' && !value.includes('\0')) {
            id = value;
            block.own = true;
        } else if (field === 'retry' && /^\d+$/.test(value)) {
            onRetry(Number(value));
        }
    }

    return (text) => {
        const blocks = [], lines = (endedWithCR && text[0] === '\n' ? text.slice(1) : text).split(/\r\n?|\n/);
        endedWithCR = text ? text.endsWith('\r') : endedWithCR;
        lines[0] = rest + lines[0];     // only what is new is searched: a large event comes in many pieces
        rest = lines.pop();
        lines.forEach((line) => {
            if (line) {
                readField(line);
            } else {
                blocks.push({...block, type: block.type || 'message', id});
                block = newBlock();
            }
        });
        return blocks;
    };
}

// The value of a text, or undefined if the text is not JSON.
export function asJSON(text) {
    try {
        return JSON.parse(text);
    } catch {
        return undefined;
    }
}

// The event that tabs are sent for a block of a stream with these channels. A line break would end the line `channel:`,
// so the server encodes the names that have one.
export function toEvent(block, known) {
    const channels = block.channels.map((name) =>
        known.includes(name) ? name : name.replace(/%(0A|0D|25)/g, decodeURIComponent));
    return {...block, channels, data: block.data.slice(0, -1)};
}
