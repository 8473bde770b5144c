/* Ids of events: <ms>-<n>-<node>, in order among those of one node. Numbers of up to 64 bits, so compared as text. */

const ID = /^(\d+)-(\d+)-(.+)$/s;

function parse(id) {
    const [, ms, number, node] = ID.exec(id === 'earliest' ? '0-0-earliest' : id) || [];
    return node && {node, order: ms.padStart(20, '0') + number.padStart(20, '0')};
}

// The earlier of two ids; the first if one of them does not have this form.
export function earlier(one, other) {
    const [a, b] = [parse(one), parse(other)];
    return a && b && b.order < a.order ? other : one;
}

// Whether an event with this id comes after the position `mark`. Ids of another node are new, unless they are equal.
export function isAfter(id, mark) {
    const [a, b] = [parse(id), parse(mark)];
    return a && b && a.node === b.node ? a.order > b.order : !mark || id !== mark;
}

export const later = (id, mark) => id && isAfter(id, mark) ? id : mark;
