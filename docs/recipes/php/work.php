<?php
// The job itself, in a process of its own; put yours here.
require 'autoload.php';

const STEPS = 40;
[, $job] = $argv;
for ($done = 1; $done <= STEPS; $done++) {
    usleep(100_000);
    try {
        publisher()->publish("job-$job", ['done' => $done, 'of' => STEPS], keep: true);
    } catch (CycloneSse\Failure $failure) {
        error_log("not reported: {$failure->reason}"); // the job goes on, and the next report says more
    }
}
