<?php

declare(strict_types=1);

namespace CycloneSse;

/** A failed call to the server; the message is the server's reason, if the server answered with one. */
final class Failure extends \RuntimeException
{
    /**
     * @param int $status the HTTP status of the answer, 0 if there was none
     * @param bool $temporary whether the same call may succeed later
     * @param ?bool $published false if nothing was published, null if that is unknown
     */
    public function __construct(
        public readonly string $reason,
        public readonly int $status = 0,
        public readonly bool $temporary = false,
        public readonly ?bool $published = false,
        public readonly ?float $retryAfter = null,
    ) {
        parent::__construct($status === 0 ? $reason : "$reason (HTTP $status)", $status);
    }
}
