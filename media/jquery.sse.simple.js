/*
 * jquery.sse.simple.js: one stream of server-sent events for an element. Needs jquery.eventsource.js.
 *
 *     <ul id="news" data-sse-address="/sse/" data-sse-channels="news,sport"></ul>
 *
 *     $('#news').on('sse.message', function (e, message) { ... }).sse();
 *
 * Events on the element:
 *     sse.open     (event)              the stream is open, for the first time or again
 *     sse.message  (message, event)
 *     sse.error    (event, exception)   the connection was lost, and the plugin will reconnect, unless event.status is
 *                                       a final refusal: then the stream is closed. Or, with an exception, a message
 *                                       was not JSON: event.data is the text
 *     sse.gap      (channels, event)    events of these channels were missed: load their state again
 *
 * Options (default):
 *     address      the server's address, or a function that returns it      (the element's data-sse-address, '/sse/')
 *     data         more parameters of the address, or a function that returns them                      (none)
 *     channels     a list, or a text with commas between the names          (the element's data-sse-channels)
 *     type         'json' or 'text': what sse.message receives              ('json')
 *     label        name for $.eventsource('close', label); with several elements the second gets <label>-1 and so on
 *                                                                           ('sse-1', ...; kept as .data('sse-label'))
 *                  A second stream with this name replaces the first. Without a name, so does a second call for this
 *                  element with the same address and channels
 *     debug        true: log all events to the console                      (false)
 *     lastEventId, withCredentials, retry, maxRetry, timeout                as in jquery.eventsource.js
 */
(function ($, window) {
    'use strict';

    var unnamed = 0;

    function names(text) {
        return $.grep($.map(text.split(','), function (name) {
            return name.replace(/^\s+|\s+$/g, '');
        }), Boolean);
    }

    // The same for a second call with this address and these channels, whose stream replaces the first one: pages call
    // $('.news').sse() again when they have added elements.
    function ownLabel(element, url, channels) {
        var labels = element.data('sse-labels') || {}, key = [url].concat(channels).join('\n');
        labels[key] = labels[key] || 'sse-' + (unnamed += 1);
        element.data('sse-labels', labels);
        return labels[key];
    }

    $.fn.sse = function (options) {
        options = $.extend({type: 'json', debug: false}, options);

        function log() {
            if (options.debug && window.console) {
                window.console.log.apply(window.console, arguments);
            }
        }

        function warn(text, element) {
            if (window.console) {
                window.console.warn(text, element);
            }
        }

        return this.each(function (index) {
            var element = $(this),
                channels = options.channels || element.attr('data-sse-channels') || '',
                url = options.address || element.attr('data-sse-address') || '/sse/',
                label;

            channels = typeof channels === 'string' ? names(channels) : channels;
            if (!channels.length) {
                warn('$.fn.sse: no channels, neither as an option nor in data-sse-channels', this);
                return;
            }
            label = options.label ? options.label + (index ? '-' + index : '') : ownLabel(element, url, channels);

            function trigger(name) {
                return function (first, second) {
                    log(label, name, first, second);
                    $.eventsource.trigger(element, 'sse.' + name, [first, second], function (other) {
                        return $(other).data('sse-label');
                    });
                };
            }

            element.data('sse-label', label);
            $.eventsource($.extend({}, options, {
                label: label,
                url: url,
                data: function () {
                    return $.eventsource.parameters(options.data, {channels: channels});
                },
                dataType: options.type,
                open: trigger('open'),
                message: trigger('message'),
                error: trigger('error'),
                gap: trigger('gap')
            }));
        });
    };
}(jQuery, window));
