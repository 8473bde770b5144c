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

// A channel's name as the server writes it into the line `channel:`, which a line break would end.
function asField(name) {
    return /[\r\n]/.test(name) ? name.replace(/[%\r\n]/g, encodeURIComponent) : name;
}

// The value of a text, or undefined if the text is not JSON.
export function asJSON(text) {
    try {
        return JSON.parse(text);
    } catch {
        return undefined;
    }
}

// The event that tabs are sent for a block, with the names of those channels that the stream has requested.
export function toEvent({type, data, channels, except, id, own}, known) {
    const names = new Map(known.map((name) => [asField(name), name]));
    return {type, data: data.slice(0, -1), channels: channels.map((name) => names.get(name) || name), except, id, own};
}
