/* Ids of events: <ms>-<n>-<node>, in order among those of one node. Numbers of up to 64 bits, so compared as text. */

const ID = /^0*(\d+)-0*(\d+)-(.+)$/s;

const idParts = (id) => id === 'earliest' ? ['', '', ''] : (ID.exec(id) || []).slice(1);
const compareNumbers = (one, other) => one.length - other.length || (one < other ? -1 : +(one > other));

function compareIds(one, other) {
    return compareNumbers(one[0], other[0]) || compareNumbers(one[1], other[1]);
}

// The earlier of two ids; the first if one of them does not have this form.
export function earlier(one, other) {
    const [a, b] = [idParts(one), idParts(other)];
    return a.length && b.length && compareIds(b, a) < 0 ? other : one;
}

// Whether an event with this id comes after the position `mark`. Ids of another node are new, unless they are equal.
export function isAfter(id, mark) {
    const [a, b] = [idParts(id), idParts(mark)];
    return a[2] && a[2] === b[2] ? compareIds(a, b) > 0 : !mark || id !== mark;
}
