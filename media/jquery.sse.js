/*
 * jquery.sse.js: one stream of server-sent events for all elements of a page. Needs jquery.eventsource.js.
 *
 * A browser opens few connections to one host (six over HTTP/1.1), so the elements share one, which has the channels
 * of all of them. A message [event, data] is passed to the elements that name its event.
 *
 *     <p class="sse" data-sse-channels="chat" data-sse-events="joined,left"></p>
 *
 *     $('.sse').on('sse.joined', function (e, data) { ... });
 *     $.sse({url: '/sse/'});
 *
 * A message that is published as ["joined", {"name": "Ann"}] triggers sse.joined, with {name: 'Ann'}.
 *
 * Events on every element that matches the selector:
 *     sse.open     (event)              the stream is open, for the first time or again
 *     sse.error    (event, exception)   the connection was lost, and the plugin will reconnect, unless event.status is
 *                                       a final refusal: then the stream is closed. Or, with an exception, a message
 *                                       was not JSON, or not [event, data]: event.data is the text
 *     sse.gap      (channels, event)    events of these channels were missed: load their state again
 *     sse.message  (text, event)        only with type 'text', where a message names no event
 *
 * Options (default):
 *     url          the server's address, or a function that returns it   ('/sse/')
 *     data         more parameters of the address, such as a token, or a function that returns them  (none)
 *     selector     the elements                                  ('.sse')
 *     channelAttr  attribute with an element's channels          ('data-sse-channels'; commas between names)
 *     eventAttr    attribute with the events of an element       ('data-sse-events'; commas between names)
 *     type         'json' or 'text'                              ('json')
 *     label        name for $.eventsource('close', label); a second $.sse() with this name replaces the first
 *                                                                ('sse')
 *     eventPrefix  prefix of the events' names                   ('sse.')
 *     debug        true: log all events to the console           (false)
 *     lastEventId, withCredentials, retry, maxRetry, timeout     as in jquery.eventsource.js
 */
(function ($, window) {
    'use strict';

    var DEFAULTS = {
        url: '/sse/', selector: '.sse', channelAttr: 'data-sse-channels', eventAttr: 'data-sse-events', type: 'json',
        label: 'sse', eventPrefix: 'sse.', debug: false
    };

    function names(text) {
        return $.grep($.map((text || '').split(','), function (name) {
            return name.replace(/^\s+|\s+$/g, '');
        }), Boolean);
    }

    function uuid() {
        return 'xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx'.replace(/x/g, function () {
            return Math.floor(Math.random() * 16).toString(16);
        });
    }

    $.sse = function (options) {
        var channels = [], id = uuid();
        options = $.extend({}, DEFAULTS, options);

        $(options.selector).each(function () {
            $.each(names($(this).attr(options.channelAttr)), function (_, name) {
                if ($.inArray(name, channels) < 0) {
                    channels.push(name);
                }
            });
        });
        function log() {
            if (options.debug && window.console) {
                window.console.log.apply(window.console, arguments);
            }
        }

        // The elements are looked up each time: those that came later get events, those that went can be freed.
        function trigger(elements, name, first, second) {
            log(options.label, name, first, second);
            $.eventsource.trigger(elements, options.eventPrefix + name, [first, second], function (element) {
                return elements.index(element) >= 0;
            });
        }

        function toAll(name) {
            return function (first, second) {
                trigger($(options.selector), name, first, second);
            };
        }

        function toNamedEvent(message, event) {
            if (Object.prototype.toString.call(message) !== '[object Array]' || typeof message[0] !== 'string') {
                toAll('error')(event, new Error('a message must be [event, data]'));
                return;
            }
            trigger($(options.selector).filter(function () {
                return $.inArray(message[0], names($(this).attr(options.eventAttr))) >= 0;
            }), message[0], message[1], event);
        }

        $.eventsource('close', options.label);
        if (!channels.length) {   // a page without such elements: nothing to listen to
            log(options.label, 'no ' + options.channelAttr + ' on any ' + options.selector);
            return undefined;
        }
        return $.eventsource($.extend({}, options, {
            url: options.url,
            data: function () {   // the uuid: no cache takes two pages' streams for one
                return $.eventsource.parameters(options.data, {channels: channels, uuid: id});
            },
            dataType: options.type,
            open: toAll('open'),
            message: options.type === 'text' ? toAll('message') : toNamedEvent,
            error: toAll('error'),
            gap: toAll('gap')
        }));
    };
}(jQuery, window));
