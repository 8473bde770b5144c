/*
 * The links of one tab, or of all tabs that share connections.
 *
 * Tabs share a link as long as the server accepts all their channels in one request. Otherwise the last tab gets
 * another link, so that the channels of one tab do not limit those of others.
 */
import {makeLink} from './link.js';

const MOST_CHANNELS = 400;      // of one link; the server's --max-channels is 500
const MOST_BYTES = 6000;        // of their names in the address; common proxies accept 8 KiB

const bytes = (names) => names.reduce((sum, name) => sum + encodeURIComponent(name).length + '&channels='.length, 0);

// settings: those of makeLink, except the last two of its functions. handOver(tabs): with the number of all tabs.
export function makeHub(settings) {
    const linkOf = new Map();   // tab: link
    let most = MOST_CHANNELS;

    const links = () => [...new Set(linkOf.values())];

    function hasRoom(link, id, names) {
        const others = link.namesWithout(id), all = [...new Set([...others, ...names])];
        return !others.length || all.length === others.length || all.length <= most && bytes(all) <= MOST_BYTES;
    }

    function newLink() {
        const link = makeLink({
            ...settings,
            handOver: () => settings.handOver(linkOf.size),
            onRefused: remove,
            onTooLarge(count) {     // with 1 less at a time, twenty tabs would send hundreds of requests
                const its = [...linkOf.keys()].filter((id) => linkOf.get(id) === link);
                most = Math.min(most, Math.floor(count * 3 / 4));
                do {
                    const id = its.pop();
                    assign(id, link.remove(id), link);
                } while (its.length > 1 && link.namesWithout().length > most);
            }
        });
        return link;
    }

    function assign(id, wants, full) {
        const names = Object.keys(wants.marks);
        const link = links().find((other) => other !== full && hasRoom(other, id, names)) || newLink();
        linkOf.set(id, link);
        link.update(id, wants);
    }

    function remove(id) {
        const link = linkOf.get(id);
        linkOf.delete(id);
        if (link && links().includes(link)) {
            link.remove(id);
        } else {
            link?.stop();
        }
    }

    return {
        // Returns whether the tab is new.
        update(id, wants) {
            const link = linkOf.get(id);
            if (link && hasRoom(link, id, Object.keys(wants.marks))) {
                link.update(id, wants);
            } else {
                remove(id);
                assign(id, wants, link);
            }
            return !link;
        },
        remove,
        wake() { links().forEach((link) => link.wake()); },
        stop() {
            links().forEach((link) => link.stop());
            linkOf.clear();     // without this, a tab that goes later would start its link again
        }
    };
}
