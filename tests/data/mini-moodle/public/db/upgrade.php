<?php
// What must never be reached.
echo "an installer for everybody\n";
