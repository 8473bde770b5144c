<?php
// The job itself, in a process of its own; put yours here.
require 'autoload.php';

const STEPS = 40;
[, $job] = $argv;
for ($done = 0; $done < STEPS; $done++) {
    report($job, $done);
    usleep(100_000);
}
// No report follows the last one: if the server restarts now, pages would wait forever without this.
for ($attempt = 0; $attempt < 100 && !report($job, STEPS); $attempt++) {
    sleep(1);
}

function report(string $job, int $done): bool
{
    try {
        publisher()->publish("job-$job", ['done' => $done, 'of' => STEPS], keep: true);
        return true;
    } catch (CycloneSse\Failure $failure) {
        error_log("not reported: {$failure->reason}"); // the job goes on, and the next report says more
        return false;
    }
}
