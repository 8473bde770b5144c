<?php
// What the server asks: --auth-url=http://127.0.0.1:8000/auth.php. A session may follow the jobs that it has started.
require 'autoload.php';

session_start(['read_and_close' => true]);
$mine = array_map(static fn (string $job): string => "job-$job", $_SESSION['jobs'] ?? []);
$allowed = array_intersect(CycloneSse\Publisher::askedChannels(), $mine);
http_response_code($allowed ? 200 : ($mine ? 403 : 401));
header('Content-Type: application/json');
echo json_encode(['channels' => array_values($allowed), 'expires' => 3600]);
