"""Makes a CloudFormation stack of one policy, for cfn-lint: policy_stack.py KEY <POLICY >STACK."""

import json
import sys

key, policy = sys.argv[1], json.load(sys.stdin)
kind = "AWS::IAM::Role" if key == "AssumeRolePolicyDocument" else "AWS::IAM::ManagedPolicy"
stack = {
    "AWSTemplateFormatVersion": "2010-09-09",
    "Resources": {"It": {"Type": kind, "Properties": {key: policy}}},
}
json.dump(stack, sys.stdout)
