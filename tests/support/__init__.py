"""Helpers of the tests."""

import functools

import botocore.session

# Every boto3 session reads descriptions of AWS's services from hundreds of files, and Strands makes one for each Swarm.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)
