/*
 * jquery.eventsource.js: server-sent events for jQuery 1.7.2, 3.x and 4.x.
 *
 * Uses the browser's EventSource, or XHR long polling in a browser without one. After an outage of the network or the
 * server the stream reconnects with the id of the last event, so that the server sends what was missed.
 *
 *     $.eventsource({url: '/sse/', data: {channels: ['news', 'chat']}, message: function (data, event) { ... }});
 *     $.eventsource('close', label)      closes a stream; without a label, or with '*', all of them
 *     $.eventsource('streams', label)    returns {label, url, source, lastEventId}; without a label, all, by label
 *     $.eventsource.close(label), $.eventsource.streams(label)    the same
 *
 * Options (default):
 *     label            name of the stream; a second stream with this name replaces the first  ('stream-1', ...)
 *     url              address of the server, or a function that returns it
 *     data             parameters of the address, or a function that returns them; a list repeats its parameter.
 *                      The functions are called for each connection                           (none)
 *     dataType         'json' or 'text': what `message` receives                              ('json')
 *     open(event)      the stream is open, for the first time or again
 *     message(data, event)
 *     error(event, exception)   the connection was lost, and the plugin will reconnect, unless event.status is 204,
 *                      400, 401, 403, 404, 410 or 414: then the stream is closed. Or, with an `exception`, a
 *                      message was not JSON: event.data is the text, and the stream continues
 *     gap(channels, event)      events of these channels were missed, and the server no longer has them: load
 *                      their state again. An empty list: it is not known which channels
 *     events           {type: function (data, event)} for events that have a type             (none)
 *     lastEventId      start after this event, or 'earliest'                                  (from now on)
 *     withCredentials  send cookies to another origin                                         (false)
 *     retry            ms before the next attempt, doubled after each failure, and at least the server's
 *                      Retry-After; with long polling the server's `retry:` replaces it. A poll that
 *                      received an event is followed by the next one at once                  (500)
 *     maxRetry         longest time between two attempts, in ms                               (30000)
 *     timeout          ms without a byte after which a poll has failed: more than the server's
 *                      --ping-interval                                                        (90000)
 */
(function ($, window) {
    'use strict';

    var CONNECTING = 0, OPEN = 1, CLOSED = 2;
    var GAP = 'sse-gap';
    var ASKING = 10000;     // ms to wait for the status of a refusal
    var SHORTEST = 500;     // ms between two tries that a server can ask for
    var LONGEST = 3600000;  // ms; more than 24.8 days would be none for the browser's timers
    var FINAL = [204, 400, 401, 403, 404, 410, 414];    // statuses after which there is no other try
    var DEFAULTS = {
        label: null, url: null, data: null, dataType: 'json',
        open: $.noop, message: $.noop, error: $.noop, gap: $.noop, events: null,
        lastEventId: '', withCredentials: false, retry: 500, maxRetry: 30000, timeout: 90000
    };
    var streams = {};
    var unnamed = 0;

    function withParameters(url, parameters) {
        return parameters ? url + (url.indexOf('?') < 0 ? '?' : '&') + parameters : url;
    }

    function given(option) {
        return typeof option === 'function' ? option() : option;
    }

    function asParameters(data) {
        data = given(data);
        return typeof data === 'string' ? data : $.param(data || {}, true);
    }

    function bounded(ms) {
        return Math.min(Math.max(ms, SHORTEST) || SHORTEST, LONGEST);
    }

    // The ms that an answer asks to wait: Retry-After is a number of seconds, or a date. 0 if it asks for nothing.
    function retryAfter(request) {
        var value = request.getResponseHeader('Retry-After');
        if (!value) {
            return 0;
        }
        return bounded(/^\d+$/.test(value) ? value * 1000 : Date.parse(value) - new Date().getTime());
    }

    function isStream(request) {
        return request.status === 200 &&
            /^text\/event-stream\b/i.test(request.getResponseHeader('Content-Type') || '');
    }

    function parseJSON(text) {
        return window.JSON ? window.JSON.parse(text) : $.parseJSON(text);
    }

    // ---- EventSource for browsers without one ----
    // Behaves as the HTML standard says of EventSource, with one difference: it never reconnects by itself after a
    // failure, but closes; Stream below opens the next one. Knows nothing of JSON and of the options above.

    function Polling(url, settings) {
        this.url = url;
        this.withCredentials = settings.withCredentials;
        this.retry = settings.retry;
        this.timeout = settings.timeout;
        this.readyState = CONNECTING;
        this.lastEventId = '';
        this.listeners = {};
        this.request = null;
        this.wait(0);   // not at once: listeners come first
    }

    Polling.prototype.addEventListener = function (type, listener) {
        (this.listeners[type] = this.listeners[type] || []).push(listener);
    };

    Polling.prototype.dispatch = function (event) {
        event.target = this;
        $.each(this.listeners[event.type] || [], function (_, listener) {
            try {
                listener(event);
            } catch (exception) {   // one handler's fault must not end the stream, nor stay hidden
                window.setTimeout(function () { throw exception; }, 0);
            }
        });
    };

    Polling.prototype.close = function () {
        var request = this.request;
        this.readyState = CLOSED;
        this.request = null;
        window.clearTimeout(this.timer);
        if (request) {
            request.abort();
        }
    };

    Polling.prototype.fail = function (status, wait) {
        this.close();
        status = status === 1223 ? 204 : status || 0;    // 1223: Internet Explorer
        this.dispatch({type: 'error', status: status, wait: wait || 0});
    };

    Polling.prototype.wait = function (ms) {
        var self = this;
        window.clearTimeout(this.timer);
        this.timer = window.setTimeout(function () { self.poll(); }, ms);
    };

    Polling.prototype.expectBytes = function () {
        var self = this;
        window.clearTimeout(this.timer);
        this.timer = window.setTimeout(function () { self.fail(); }, this.timeout);
    };

    Polling.prototype.poll = function () {
        var self = this, request = new window.XMLHttpRequest(), poll = {accepted: false, read: 0, events: 0};
        this.request = request;
        request.open('GET', this.url, true);
        if (this.withCredentials) {
            request.withCredentials = true;
        }
        request.setRequestHeader('Accept', 'text/event-stream');
        request.setRequestHeader('X-Requested-With', 'XMLHttpRequest');
        if (this.lastEventId) {
            request.setRequestHeader('Last-Event-Id', this.lastEventId);
        }
        request.onreadystatechange = function () {
            if (self.request === request) {   // else closed meanwhile
                self.progress(request, poll);
            }
        };
        this.expectBytes();
        request.send(null);
    };

    Polling.prototype.progress = function (request, poll) {
        var done = request.readyState === 4, status = 0, text = '';
        this.expectBytes();
        try {
            status = request.status;
            text = request.responseText;
        } catch (unavailable) {}   // Internet Explorer before 10 tells nothing until the answer is complete
        if (!poll.accepted && status === 200) {
            poll.accepted = this.accept(request);
        }
        if (poll.accepted && status === 200) {
            this.read(text, poll, request);
        }
        if (!done || this.request !== request) {
            return;
        }
        if (!poll.accepted || status !== 200) {
            this.fail(status, retryAfter(request));
            return;
        }
        this.request = null;
        this.wait(poll.events ? 0 : this.retry);
    };

    // The head of an answer has come: is it a stream, and where does it start?
    Polling.prototype.accept = function (request) {
        var position;
        if (!isStream(request)) {
            return false;
        }
        position = request.getResponseHeader('Last-Event-ID');
        if (position) {   // so that a poll that brings no event, or is cut off, still leaves a place to go on from
            this.lastEventId = position;
        }
        if (this.readyState === CONNECTING) {
            this.readyState = OPEN;
            this.dispatch({type: 'open'});
        }
        return true;
    };

    // Dispatches the blocks of `text` that are complete and were not read before.
    Polling.prototype.read = function (text, poll, request) {
        var end;
        if (text.indexOf('\r') >= 0) {
            text = text.replace(/\r\n?/g, '\n');
        }
        while (this.request === request && (end = text.indexOf('\n\n', poll.read)) >= 0) {
            if (this.block(text.substring(poll.read, end))) {
                poll.events += 1;
            }
            poll.read = end + 2;
        }
    };

    // One block, up to its blank line; true if it was an event.
    Polling.prototype.block = function (text) {
        var self = this, type = 'message', data = null;
        $.each(text.split('\n'), function (_, line) {
            var colon = line.indexOf(':'),
                field = colon < 0 ? line : line.substring(0, colon),
                value = colon < 0 ? '' : line.substring(colon + 1).replace(/^ /, '');
            if (field === 'data') {
                data = data === null ? value : data + '\n' + value;
            } else if (field === 'event') {
                type = value || 'message';
            } else if (field === 'id' && value.indexOf('\0') < 0) {
                self.lastEventId = value;
            } else if (field === 'retry' && /^\d+$/.test(value)) {
                self.retry = bounded(Number(value));
            }
        });
        if (data === null) {
            return false;
        }
        this.dispatch({type: type, data: data, lastEventId: this.lastEventId});
        return true;
    };

    // ---- A named stream: an EventSource, or the one above, and the next one whenever it gave up ----

    function Stream(label, options) {
        this.label = label;
        this.options = options;
        this.lastEventId = options.lastEventId || '';
        this.failures = 0;
        this.wasOpen = false;
        this.blind = false;   // the place to go on from is not known: what was missed will not be sent
        this.connect();
    }

    Stream.prototype.address = function () {
        var url = withParameters(given(this.options.url), asParameters(this.options.data));
        return this.lastEventId ? withParameters(url, $.param({lastEventId: this.lastEventId})) : url;
    };

    Stream.prototype.connect = function () {
        var self = this, options = this.options, source, url = this.address();
        this.url = url;
        if (window.EventSource) {
            source = options.withCredentials ? new window.EventSource(url, {withCredentials: true})
                                             : new window.EventSource(url);
        } else {
            source = new Polling(url, options);
        }
        this.source = source;

        function on(type, handle) {
            source.addEventListener(type, function (event) {
                if (self.source === source) {   // else closed meanwhile
                    handle(event);
                }
            }, false);
        }

        function onEvent(type, parse, callback) {
            on(type, function (event) {
                var data;
                self.lastEventId = event.lastEventId || self.lastEventId;
                try {
                    data = parse(event.data);
                } catch (exception) {
                    options.error.call(self, event, exception);
                    return;
                }
                callback.call(self, data, event);
            });
        }

        on('open', function (event) { self.opened(event); });
        on('error', function (event) { self.failed(event); });
        onEvent('message', options.dataType === 'text' ? String : parseJSON, options.message);
        $.each(options.events || {}, function (type, callback) {
            onEvent(type, options.dataType === 'text' ? String : parseJSON, callback);
        });
        onEvent(GAP, function (text) { return parseJSON(text).channels || []; }, options.gap);
    };

    Stream.prototype.opened = function (event) {
        this.failures = 0;
        this.wasOpen = true;
        this.options.open.call(this, event);
        if (this.blind) {
            this.blind = false;
            this.options.gap.call(this, [], event);
        }
    };

    // EventSource reconnects by itself when a connection breaks, but gives up for good when it gets another answer
    // than a stream, such as a proxy's 502 while the server restarts, and tells neither its status nor Retry-After.
    // So the next try is a request that does, and an EventSource follows as soon as that is answered by a stream: a
    // server that is full has one request to refuse for each try.
    Stream.prototype.failed = function (event) {
        var self = this, options = this.options, asks = typeof options.url === 'function' ||
            typeof options.data === 'function';

        function ask() {
            self.ask(event);
        }

        if (event.target.readyState !== CLOSED) {
            options.error.call(this, event);
            return;
        }
        this.lastEventId = event.target.lastEventId || this.lastEventId;
        this.blind = this.wasOpen && !this.lastEventId;
        if (event.status === undefined) {
            this.later(0, ask);
        } else if (event.status === 401 && asks) {
            this.attempt(ask);    // at once: with the next address the server may accept it
        } else {
            this.refused(event, event.status, event.wait);
        }
    };

    // Calls `next`, and later again if it fails: a function of the page, such as one that has no token now, must neither
    // end the stream nor hide its fault.
    Stream.prototype.attempt = function (next) {
        try {
            next.call(this);
        } catch (exception) {
            if (this.source) {  // else closed meanwhile
                this.later(0, next);
            }
            throw exception;
        }
    };

    // Attempts `next` after a random time that grows with each failure, and after `least` ms.
    Stream.prototype.later = function (least, next) {
        var self = this, options = this.options,
            wait = Math.min(options.maxRetry, options.retry * Math.pow(2, this.failures));
        this.failures += 1;
        this.timer = window.setTimeout(function () { self.attempt(next); },
            Math.max(least, wait * (0.5 + Math.random() / 2)));
    };

    // Makes the next try, with new parameters if there are any, by a request that shows the status; 0 if there is none.
    Stream.prototype.ask = function (event) {
        var self = this, source = this.source, request = new window.XMLHttpRequest(), isDone = false;
        request.open('GET', this.address(), true);
        if (this.options.withCredentials) {
            request.withCredentials = true;
        }
        request.setRequestHeader('Accept', 'text/event-stream');
        request.onreadystatechange = function () {
            var status, wait, isWelcome;
            if (isDone || request.readyState < 2) {
                return;
            }
            isDone = true;
            status = request.status;
            isWelcome = isStream(request);
            wait = status ? retryAfter(request) : 0;
            request.abort();   // a stream has no end
            window.clearTimeout(self.timer);
            if (self.source !== source) {   // closed meanwhile
                return;
            }
            if (!isWelcome) {
                self.refused(event, status, wait);
                return;
            }
            self.attempt(self.connect);
            if (event.status === undefined) {   // the page has not been told that the connection was lost
                event.status = 0;
                self.options.error.call(self, event);
            }
        };
        this.timer = window.setTimeout(function () { request.abort(); }, ASKING);
        request.send(null);
    };

    Stream.prototype.refused = function (event, status, wait) {
        var self = this;
        event.status = status;
        if ($.inArray(status, FINAL) >= 0) {
            this.close();
        } else {
            this.later(wait, window.EventSource ? function () { self.ask(event); } : this.connect);
        }
        this.options.error.call(this, event);
    };

    Stream.prototype.close = function () {
        var source = this.source;
        window.clearTimeout(this.timer);
        this.source = null;
        source.close();
        if (streams[this.label] === this) {
            delete streams[this.label];
        }
    };

    function named(label) {
        return Object.prototype.hasOwnProperty.call(streams, label) ? streams[label] : undefined;
    }

    $.eventsource = function (options, label) {
        var given = label !== undefined && label !== null;
        if (options === 'streams') {
            return given ? named(label) : $.extend({}, streams);
        }
        if (options === 'close') {
            $.each(given && label !== '*' ? [named(label)] : $.extend({}, streams), function (_, stream) {
                if (stream) {
                    stream.close();
                }
            });
            return undefined;
        }
        options = $.extend({}, DEFAULTS, options);
        if (!options.url) {
            throw new Error('$.eventsource needs an url');
        }
        label = options.label || 'stream-' + (unnamed += 1);
        if (named(label)) {
            named(label).close();
        }
        streams[label] = new Stream(label, options);
        return streams[label];
    };

    $.each(['close', 'streams'], function (_, command) {
        $.eventsource[command] = function (label) { return $.eventsource(command, label); };
    });

    // For the two plugins beside this one: the parameters of an address, those of the option `data` and more. In an
    // object the plugin's own take precedence.
    $.eventsource.parameters = function (data, more) {
        data = given(data);
        if ($.isPlainObject(data)) {
            return asParameters($.extend({}, data, more));
        }
        return $.grep([asParameters(data), asParameters(more)], Boolean).join('&');
    };

    // For the two plugins beside this one: triggers an event on each of the elements. It bubbles, so that handlers on
    // the document hear it; but an element of which `hasItsOwn(element)` is true hears only what is triggered on itself,
    // so that one inside another does not give it an event twice.
    $.eventsource.trigger = function (elements, name, parameters, hasItsOwn) {
        var type = name.split('.')[0], special = $.event.special[type] = $.event.special[type] || {};
        special.handle = special.handle || function (event) {
            if (!event.sseHasItsOwn || this === event.target || !event.sseHasItsOwn(this)) {
                return event.handleObj.handler.apply(this, arguments);
            }
            return undefined;
        };
        $(elements).each(function () {
            $(this).trigger($.extend($.Event(name), {sseHasItsOwn: hasItsOwn}), parameters);
        });
    };
}(jQuery, window));
