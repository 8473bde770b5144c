<?php
// A long job: its progress is the state of its channel, so a page that is loaded again shows it at once.
session_start(['cookie_samesite' => 'Lax', 'cookie_httponly' => true]);
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $job = bin2hex(random_bytes(16));
    $_SESSION['jobs'][] = $job;
    // Not PHP_BINARY, which is php-fpm or empty behind a web server.
    exec(PHP_BINDIR . '/php ' . escapeshellarg(__DIR__ . '/work.php') . " $job > /dev/null 2>&1 &");
    header("Location: /?job=$job");
    exit;
}
$job = $_GET['job'] ?? '';
$known = in_array($job, $_SESSION['jobs'] ?? [], true);
?>
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>A long job</title><link rel="icon" href="data:,"></head>
<body>
<h1>A long job</h1>
<form method="post"><button>Start one</button></form>
<?php if ($known): ?>
<p><progress id="bar" value="0" max="1" aria-label="Progress"></progress> <span id="text" role="status"></span></p>
<script type="module">
import {connect} from '/cyclone-sse.js';

const stream = connect('<?= getenv('SSE_URL') ?>' || `http://${location.hostname}:8888/`, {
    channels: 'job-<?= $job ?>', state: true, credentials: 'include',
});
stream.on('message', ({json: {done, of}}) => {
    Object.assign(document.querySelector('#bar'), {value: done, max: of});
    document.querySelector('#text').textContent = done < of ? `${done} of ${of}` : 'Done.';
});
</script>
<?php endif ?>
</body>
</html>
