<?php

declare(strict_types=1);

namespace CycloneSse;

/**
 * Publishes to a cyclone-sse server.
 *
 * A call that fails throws a Failure. After a lost connection, or the status 429, 502, 503 or 504, a call is repeated, for up to
 * $patience seconds, with the same idempotency key: its message is published once.
 */
final class Publisher
{
    private const JSON = JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_PRESERVE_ZERO_FRACTION;
    private const FIRST_PAUSE = 0.1; // seconds
    private const LONGEST_PAUSE = 5.0; // seconds
    private const RETRY = [429, 502, 503, 504]; // a proxy answers 502 and 504 while the server restarts

    /**
     * @param string $url the server's URL, such as http://127.0.0.1:8888
     * @param string $key the server's --http-secret, or a token with a claim "publish"
     * @param float $timeout seconds for one attempt
     * @param float $patience seconds for all attempts of one call; 0: a single attempt
     */
    public function __construct(
        private readonly string $url,
        private readonly string $key = '',
        private readonly float $timeout = 2.0,
        private readonly float $patience = 3.0,
    ) {
    }

    /**
     * Publish a message to one channel or several. A string is sent unchanged, anything else as JSON.
     *
     * @param string|list<string> $channels
     * @param ?string $event the event's type in the browser
     * @param bool $keep make the event the state of its channels
     * @param int|float|null $ttl seconds that the event is kept for clients that reconnect; 0: not at all
     * @param ?string $except the id of a client that does not receive the event
     * @param ?int $retry a new reconnection time in milliseconds
     * @return array{id?: string, subscribers: int} without id if only the broker knows it
     */
    public function publish(
        string|array $channels,
        mixed $message,
        ?string $event = null,
        bool $keep = false,
        int|float|null $ttl = null,
        ?string $except = null,
        ?int $retry = null,
        ?string $idempotencyKey = null,
    ): array {
        $optional = ['event' => $event, 'keep' => $keep ?: null, 'ttl' => $ttl, 'except' => $except, 'retry' => $retry];
        $fields = ['channel' => self::names($channels), 'message' => $message];
        $fields += array_filter($optional, static fn (mixed $value): bool => $value !== null);
        return $this->post('/publish', $fields, $idempotencyKey ?? self::newKey());
    }

    /**
     * Publish several messages in one request: all of them in this order, or none.
     *
     * @param list<array<string, mixed>> $messages each ['channel' => .., 'message' => .., 'event' => .., ..]
     * @return array{ids?: list<string>, subscribers: int}
     */
    public function batch(array $messages, ?string $idempotencyKey = null): array
    {
        $key = $idempotencyKey ?? self::newKey();
        $body = [];
        foreach (array_values($messages) as $index => $message) {
            $named = array_map(self::names(...), array_intersect_key($message, ['channel' => 0, 'channels' => 0]));
            $body[] = $named + $message + ['idempotency_key' => "$key-$index"];
        }
        return $this->post('/publish', $body, null);
    }

    /**
     * End the streams of a user, or of channels. Their clients reconnect and are authorised again.
     *
     * @param string|list<string>|null $channels
     * @return int the number of ended streams on the server that answered
     */
    public function disconnect(int|string|null $user = null, string|array|null $channels = null): int
    {
        if (($user === null) === ($channels === null)) {
            throw new \ValueError('name the user or the channels whose streams to end');
        }
        $fields = $channels === null ? ['user' => (string) $user] : ['channel' => self::names($channels)];
        return $this->post('/disconnect', $fields, null)['streams'];
    }

    /**
     * Delete the state and the history of channels.
     *
     * @param string|list<string> $channels
     */
    public function clear(string|array $channels): void
    {
        $this->post('/clear', ['channel' => self::names($channels)], null);
    }

    /**
     * Return the states of these channels, without channels that have none.
     *
     * @param string|list<string> $channels
     * @return array<string, array{id: string, event: ?string, data: string}>
     */
    public function state(string|array $channels): array
    {
        return $this->call('GET', '/state?' . self::query((array) $channels));
    }

    /**
     * Return the members of a channel.
     *
     * @return array<string, mixed>
     */
    public function presence(string $channel): array
    {
        return $this->call('GET', '/presence?' . self::query([$channel]));
    }

    /**
     * Return the channels that the server asks about by --auth-url.
     *
     * Of several parameters with the same name, PHP's $_GET and the requests of frameworks keep only the
     * last: a page that reads those would check one channel, and allow all.
     *
     * @return list<string>
     */
    public static function askedChannels(?string $query = null): array
    {
        preg_match_all('/(?:^|&)channels=([^&]*)/', $query ?? $_SERVER['QUERY_STRING'] ?? '', $found);
        return array_values(array_unique(array_map('urldecode', $found[1])));
    }

    /**
     * @param array<mixed> $body
     * @return array<string, mixed>
     */
    private function post(string $path, array $body, ?string $idempotencyKey): array
    {
        $headers = ['Content-Type: application/json'];
        if ($idempotencyKey !== null) {
            $headers[] = "Idempotency-Key: $idempotencyKey";
        }
        try {
            $json = json_encode($body, self::JSON);
        } catch (\JsonException $error) {
            throw new Failure("the message cannot be written as JSON, which is UTF-8: {$error->getMessage()}");
        }
        return $this->call('POST', $path, $headers, $json);
    }

    /**
     * @param list<string> $headers
     * @return array<string, mixed>
     */
    private function call(string $method, string $path, array $headers = [], string $body = ''): array
    {
        $this->checkUrl();
        $deadline = microtime(true) + $this->patience;
        $pause = self::FIRST_PAUSE;
        while (true) {
            try {
                return $this->attempt($method, $path, $headers, $body);
            } catch (Failure $failure) {
                // With a random part, so that not all publishers that received the same Retry-After call at once.
                $wait = max($failure->retryAfter ?? $pause / 2, 0) + $pause * random_int(0, 100) / 100;
                if (!$failure->temporary || microtime(true) + $wait > $deadline) {
                    throw $failure;
                }
                usleep((int) ($wait * 1_000_000));
                $pause = min($pause * 2, self::LONGEST_PAUSE);
            }
        }
    }

    /** Without this, a call that can never succeed would be repeated while the page waits. */
    private function checkUrl(): void
    {
        $scheme = strtolower((string) parse_url($this->url, PHP_URL_SCHEME));
        if ($scheme !== 'http' && $scheme !== 'https') {
            throw new Failure('the URL of the server must begin with http:// or https://');
        }
        if (!filter_var(ini_get('allow_url_fopen'), FILTER_VALIDATE_BOOL)) {
            throw new Failure('allow_url_fopen is off in the settings of PHP: this client needs it');
        }
        if (!in_array($scheme, stream_get_wrappers(), true)) {
            throw new Failure("PHP cannot open URLs with $scheme: the extension openssl is missing");
        }
    }

    /**
     * @param list<string> $headers
     * @return array<string, mixed>
     */
    private function attempt(string $method, string $path, array $headers, string $body): array
    {
        if ($this->key !== '') {
            $headers[] = "Authorization: Bearer {$this->key}";
        }
        if (preg_grep('/[\r\n\0]/', $headers)) {
            // Without this, what stands behind the line break would be another header, or another request.
            throw new Failure('the key and the idempotency key must have no line breaks');
        }
        $context = stream_context_create(['http' => [
            'method' => $method,
            'header' => [...$headers, 'Connection: close'],
            'content' => $body,
            'timeout' => $this->timeout,
            'ignore_errors' => true, // without this, the body of a refusal, which has the reason, is not read
            'follow_location' => 0,
            'protocol_version' => 1.1,
        ]]);
        error_clear_last();
        $stream = @fopen(rtrim($this->url, '/') . $path, 'r', false, $context);
        if ($stream === false) {
            $error = error_get_last()['message'] ?? 'the connection failed';
            $neverSent = str_contains($error, 'Connection refused');
            throw new Failure("no answer: $error", temporary: true, published: $neverSent ? false : null);
        }
        $head = stream_get_meta_data($stream)['wrapper_data'];
        // Without the length, PHP would wait until the connection is closed, and some proxies keep it open.
        $length = self::header($head, 'content-length');
        $answer = @stream_get_contents($stream, is_numeric($length) ? (int) $length : null);
        $late = stream_get_meta_data($stream)['timed_out'];
        fclose($stream);
        if ($answer === false || $late || (is_numeric($length) && strlen($answer) < (int) $length)) {
            throw new Failure('no whole answer in time', temporary: true, published: null);
        }
        return self::read($head, $answer);
    }

    /**
     * @param list<string> $head the status line and the headers
     * @return array<string, mixed>
     */
    private static function read(array $head, string $body): array
    {
        $status = (int) (explode(' ', $head[0])[1] ?? 0);
        $value = json_decode($body, true);
        if ($status === 200) {
            if (!is_array($value)) {
                throw new Failure('this is not an answer of cyclone-sse: ' . substr($body, 0, 100), $status);
            }
            return $value;
        }
        $said = is_array($value) ? $value : [];
        $reason = (string) ($said['reason'] ?? (substr($body, 0, 300) ?: 'no reason given'));
        if (!in_array($status, self::RETRY, true)) {
            throw new Failure($reason, $status);
        }
        // After a 502 this is unknown: the server may have read the request before it stopped.
        $published = ($said['published'] ?? null) === false || $status === 429 ? false : null;
        $retryAfter = self::header($head, 'retry-after');
        throw new Failure($reason, $status, true, $published, is_numeric($retryAfter) ? (float) $retryAfter : null);
    }

    /** @param list<string> $head */
    private static function header(array $head, string $name): ?string
    {
        foreach ($head as $line) {
            [$field, $value] = explode(':', $line, 2) + [1 => ''];
            if (strtolower($field) === $name) {
                return trim($value);
            }
        }
        return null;
    }

    /** Without this, the result of array_filter or array_unique would be a JSON object, which the server refuses. */
    private static function names(mixed $channels): mixed
    {
        return is_array($channels) ? array_values($channels) : $channels;
    }

    private static function newKey(): string
    {
        return bin2hex(random_bytes(16));
    }

    /** @param list<string> $channels */
    private static function query(array $channels): string
    {
        return implode('&', array_map(static fn (string $name): string => 'channel=' . rawurlencode($name), $channels));
    }
}
