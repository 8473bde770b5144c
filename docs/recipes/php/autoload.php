<?php
// With Composer: require 'vendor/autoload.php';
spl_autoload_register(static function (string $class): void {
    require __DIR__ . '/../../../clients/php/src/' . substr($class, strlen('CycloneSse\\')) . '.php';
});

function publisher(): CycloneSse\Publisher
{
    return new CycloneSse\Publisher(getenv('SSE_SERVER') ?: 'http://127.0.0.1:8888', getenv('SSE_KEY') ?: 'KEY');
}
