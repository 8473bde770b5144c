<?php

declare(strict_types=1);

namespace CycloneSse;

/** JSON Web Tokens (RFC 7519, HS256) that let a browser subscribe. */
final class Token
{
    /**
     * Sign a token with the server's --jwt-secret, which has at least 32 bytes.
     *
     * @param list<string> $subscribe the channels, or globs such as "room-*"
     * @param list<string> $publish the channels to which the token's bearer may publish
     * @param mixed $info shown with this user to other members of channels with presence
     * @param array<string, mixed> $claims further claims, such as ['iss' => 'shop']
     */
    public static function make(
        string $secret,
        array $subscribe,
        int|string|null $user = null,
        int $seconds = 3600,
        array $publish = [],
        mixed $info = null,
        array $claims = [],
    ): string {
        if (strlen($secret) < 32) {
            throw new \ValueError('the secret must have at least 32 bytes');
        }
        $payload = ['exp' => time() + $seconds, 'subscribe' => array_values($subscribe)] + $claims;
        $payload += $user === null ? [] : ['sub' => (string) $user];
        $payload += $info === null ? [] : ['info' => $info];
        $payload += $publish === [] ? [] : ['publish' => array_values($publish)];
        $signed = self::part(['alg' => 'HS256', 'typ' => 'JWT']) . '.' . self::part($payload);
        return $signed . '.' . self::base64(hash_hmac('sha256', $signed, $secret, true));
    }

    /** @param array<string, mixed> $value */
    private static function part(array $value): string
    {
        return self::base64(json_encode($value, JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES));
    }

    private static function base64(string $bytes): string
    {
        return rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
    }
}
